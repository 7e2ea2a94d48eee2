"""Which forks are verified: our tests against scipy's, and simulated false-discovery rates."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2_contingency, fisher_exact

from forkpoint_server.fork_analysis.request import min_continuations
from forkpoint_server.fork_analysis.significance import judge, p_value

TEXTS, FORKS, FDR = 1000, 16, 0.05


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def table(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def test_two_outcomes_of_two_alternatives_are_fishers() -> None:
    assert p_value(table([9, 1], [2, 8]), random()) == pytest.approx(fisher_exact(table([9, 1], [2, 8])).pvalue)


def test_full_tables_are_chi_square() -> None:
    full = table([30, 20, 10], [10, 20, 30])
    assert p_value(full, random()) == pytest.approx(chi2_contingency(full, correction=False).pvalue)


def test_sparse_tables_are_resampled_and_agree_with_the_exact_test() -> None:
    """Freeman and Halton's, by enumeration."""
    sparse = table([6, 4, 1], [1, 5, 5])
    assert p_value(sparse, random()) == pytest.approx(enumerated(sparse), abs=0.01)
    assert p_value(sparse, random(1)) == p_value(sparse, random(1)), "the same seed gives the same value"


def enumerated(observed: NDArray[np.int64]) -> float:
    """The Freeman-Halton test of a 2 × 3 table by going through all tables with its margins."""
    from math import comb

    columns, first = observed.sum(axis=0).tolist(), int(observed[0].sum())
    weights = {
        (a, b, first - a - b): comb(columns[0], a) * comb(columns[1], b) * comb(columns[2], first - a - b)
        for a in range(columns[0] + 1)
        for b in range(columns[1] + 1)
        if 0 <= first - a - b <= columns[2]
    }
    own = weights[tuple(observed[0].tolist())]
    return sum(weight for weight in weights.values() if weight <= own) / sum(weights.values())


def test_a_single_outcome_shows_no_difference() -> None:
    assert p_value(table([10, 0], [10, 0]), random()) == 1.0
    assert p_value(table([10], [10]), random()) == 1.0


def test_benjamini_and_hochberg() -> None:
    """The example of their paper (1995, section 3.2): four of fifteen at 0.05."""
    values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ]  # fmt: skip
    found = judge(values, 0.05)
    assert [one.verified for one in found] == [True] * 4 + [False] * 11
    assert found[0].q == pytest.approx(0.0015)
    assert judge([], 0.05) == []


def tables(differ: bool, sparse: bool, generator: np.random.Generator, continuations: int) -> NDArray[np.int64]:
    outcomes = 8 if sparse else 2
    one = generator.dirichlet(np.full(outcomes, 0.7))
    other = generator.dirichlet(np.full(outcomes, 0.2)) if differ else one
    return np.stack([generator.multinomial(continuations, one), generator.multinomial(continuations, other)])


@cache
def fishers(first: int, second: int, continuations: int) -> float:
    return p_value(table([first, continuations - first], [second, continuations - second]), random())


def p_of(found: NDArray[np.int64], generator: np.random.Generator, resamples: int) -> float:
    if found.shape == (2, 2):  # few kinds, often met
        return fishers(int(found[0, 0]), int(found[1, 0]), int(found[0].sum()))
    return p_value(found, generator, resamples)


@pytest.mark.parametrize(("sparse", "texts", "resamples"), [(False, TEXTS, 0), (True, 60, 499)])
def test_where_no_fork_matters_few_texts_have_a_verified_one(sparse: bool, texts: int, resamples: int) -> None:
    """If all forks are false, any verified one is false: the share of such texts is the false-discovery rate."""
    generator, wrong = random(1), 0
    for _ in range(texts):
        values = [p_of(tables(False, sparse, generator, 10), generator, resamples) for _ in range(FORKS)]
        wrong += any(one.verified for one in judge(values, FDR))
    assert binomtest(wrong, texts, FDR, alternative="greater").pvalue > 0.01, wrong / texts


def test_where_some_forks_matter_few_of_the_verified_are_false() -> None:
    generator, shares, found = random(2), [], 0
    for _ in range(300):
        differ = generator.random(FORKS) < 0.4
        values = [p_of(tables(bool(one), False, generator, 20), generator, 0) for one in differ]
        verified = np.array([one.verified for one in judge(values, FDR)])
        found += int((verified & differ).sum())
        shares.append((verified & ~differ).sum() / max(1, verified.sum()))
    assert np.mean(shares) < FDR
    assert found > 300, "there is something to be found"


@pytest.mark.parametrize(("alternatives", "fdr", "fewest"), [(2, 0.05, 4), (2, 0.01, 5), (3, 0.05, 3), (2, 0.5, 2)])
def test_the_fewest_continuations_that_can_verify(alternatives: int, fdr: float, fewest: int) -> None:
    assert min_continuations(alternatives, fdr) == fewest

    apart = np.eye(alternatives, dtype=np.int64)

    def certain(number: int) -> float:
        return (
            float(fisher_exact(apart * number).pvalue)
            if alternatives == 2
            else p_value(apart * number, random(), 49_999)
        )

    assert certain(fewest) <= fdr + 1e-9 < certain(fewest - 1) + 1e-6


@pytest.mark.parametrize("positions", [1, 3, 16, 200])
def test_the_fewest_continuations_verify_one_fork_among_the_positions(positions: int) -> None:
    """One fewer cannot, however they come out: the smallest p-value of a text is compared with fdr / positions."""
    fewest = min_continuations(2, FDR, positions)
    for continuations, verified in ((fewest, True), (fewest - 1, False)):
        differing = p_value(table([continuations, 0], [0, continuations]), random())
        assert judge([differing, *[1.0] * (positions - 1)], FDR)[0].verified == verified
