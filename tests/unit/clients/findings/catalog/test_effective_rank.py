"""`effective-rank` finds planted correlations and differences, and only those."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forkpoint_clients.evaluate.stats import Floats
from forkpoint_clients.findings.catalog import effective_rank
from forkpoint_clients.findings.catalog.effective_rank import SIGNALS, STRIDE, WATCHED, WINDOW, conclude
from forkpoint_policies.library import LIBRARY
from tests.unit.clients.findings.synthetic import Answers, scored, words

TEXTS = 300
ALONG = np.arange(10.0)


def by_token(signal: Floats, tokens: int) -> list[float | None]:
    """As the server has it: each value from the last token of its window to the next, None where not known."""
    values = np.concatenate([np.full(WINDOW - 1, np.nan), np.repeat(signal, STRIDE)])[:tokens]
    return [float(value) if np.isfinite(value) else None for value in values]


def watched(number: int, right: bool, nats: Floats, ranks: Floats) -> Answers:
    """One answer with entropies [tokens], and the ranks of its windows."""
    velocity = np.array([np.nan, *(ranks[at] - ranks[:at].mean() for at in range(1, len(ranks)))])
    acceleration = np.array([np.nan, *np.diff(velocity)])
    tokens = len(nats)
    trace = {
        "tokens": [" a"] * tokens,
        "positions": list(range(tokens)),
        "entropies": nats.tolist(),
        "in_reasoning": [1] * tokens,
        "hidden": {
            name: by_token(signal, tokens)
            for name, signal in zip(SIGNALS.values(), (ranks, velocity, acceleration), strict=True)
        },
    }
    return {(f"q{number}", 0): scored(float(right), tokens, trace=trace)}


Ranks = Callable[[Floats, bool, int, np.random.Generator], Floats]
"""The ranks of a text from its windows' mean entropies [windows], whether it is right, and its length in tokens."""


def planted(ranks_of: Ranks, right_from: Callable[[int], float] = lambda _: 0.5) -> Answers:
    """Texts of 160 to 320 tokens with random entropies, each around a rank of its own; right with the probability that
    `right_from` has for their length.
    """
    random, found = np.random.default_rng(0), Answers()
    for number in range(TEXTS):
        length = int(random.integers(160, 320))
        nats = np.repeat(random.uniform(0.0, 2.0, length // STRIDE + 1), STRIDE)[:length]
        windows = np.array([nats[end - WINDOW : end].mean() for end in range(WINDOW, length + 1, STRIDE)])
        right = bool(random.random() < right_from(length))
        found |= watched(number, right, nats, random.normal(20, 3) + ranks_of(windows, right, length, random))
    return found


def noise(nats: Floats, right: bool, length: int, random: np.random.Generator) -> Floats:
    return random.normal(0, 1, len(nats))


def test_ranks_without_any_relation_are_independent() -> None:
    found = conclude(planted(noise))
    assert words(found) == ["reproduced", "measured", "undecided"]
    assert found.verdict.word == "reproduced"
    assert all(abs(figure.estimate.value) < 0.2 for figure in found.figures)
    assert len(found.plots) == 3
    assert found.notes[0].startswith(f"{TEXTS} of {TEXTS} answers, ")


def test_each_rank_is_compared_with_the_entropy_of_its_own_window() -> None:
    """Of ranks that follow the entropy exactly, around a level of each text's own."""
    found = conclude(planted(lambda nats, right, length, random: 5 * nats))
    without_drift, _, over_answers = (figure.estimate for figure in found.figures)
    assert found.claims[1].parts[0].estimate.value == pytest.approx(1.0, abs=1e-5)
    assert without_drift.value == pytest.approx(1.0, abs=1e-5)
    assert over_answers.value < 0.9
    almost = conclude(planted(lambda nats, right, length, random: 10 * nats + noise(nats, right, length, random)))
    assert words(almost)[1] == "measured otherwise"
    assert almost.verdict.word == "measured otherwise"


def test_ranks_are_shown_by_entropy_around_their_texts_means() -> None:
    texts = [
        effective_rank.RankedText("q", True, 96, np.full((3, 3), level), np.array([0.1, 0.2, 0.3]))
        for level in (1.0, 9.0)
    ]
    pairs = [np.column_stack([level + np.array([-1.0, 0.0, 1.0]), [0.1, 0.2, 0.3]]) for level in (1.0, 9.0)]
    marks = [(nats, mean.value) for nats, mean in effective_rank.by_entropy(texts, pairs)]
    np.testing.assert_allclose(marks, [(0.1, 4.0), (0.2, 5.0), (0.3, 6.0)])


def test_what_both_drift_along_a_text_can_be_removed() -> None:
    pairs = np.column_stack([30 - ALONG, 2 - 0.1 * ALONG])
    assert np.abs(effective_rank.without_drift(pairs)).max() < 1e-9
    bent = effective_rank.without_drift(pairs + np.column_stack([ALONG**2, ALONG**2]))
    assert np.corrcoef(bent.T)[0, 1] == pytest.approx(1.0)


def test_a_rank_that_rises_in_right_answers_is_found() -> None:
    def rising(step: float) -> Ranks:
        return lambda nats, right, length, random: (
            noise(nats, right, length, random) + step * right * np.arange(len(nats))
        )

    assert words(conclude(planted(rising(1.0))))[2] == "measured"
    assert words(conclude(planted(rising(-1.0))))[2] == "measured otherwise"


def test_a_rank_that_only_counts_tokens_says_nothing_at_equal_length() -> None:
    """Short answers are mostly right here, and the rank rises along each text."""

    def counting(nats: Floats, right: bool, length: int, random: np.random.Generator) -> Floats:
        return np.arange(len(nats)) + noise(nats, right, length, random)

    found = conclude(planted(counting, right_from=lambda length: 0.8 if length < 240 else 0.2))
    (rank, *_) = found.tables[0].rows
    assert rank[3].startswith("−"), "of whole answers, right ones are lower"
    assert all(part.estimate.low < 0 < part.estimate.high for part in found.claims[2].parts)
    assert words(found)[2] == "undecided"


def test_short_answers_and_those_with_a_gap_are_left_out() -> None:
    nats, ranks = np.full(WINDOW + 2 * STRIDE, 0.5), np.array([20.0, 21.0, 23.0])
    whole = watched(0, True, nats, ranks)
    (text,) = effective_rank.ranked(whole)
    assert text.means == pytest.approx([64 / 3, 1.75, 1.5])
    assert not list(effective_rank.ranked(watched(0, True, nats[:-1], ranks[:-1])))
    gap = np.array([20.0, np.nan, 23.0])
    assert not list(effective_rank.ranked(watched(0, True, nats, gap)))
    assert not list(effective_rank.ranked({("q", 0): scored(1.0)}))
    nothing = conclude({("q", 0): scored(1.0)})
    assert (nothing.verdict.word, nothing.claims) == ("undecided", ())
    assert "at least 96 tokens" in nothing.notes[0]


def test_only_places_that_right_and_wrong_answers_reach_are_compared() -> None:
    texts = [
        effective_rank.RankedText(f"q{number}", right, 96, np.zeros((3, 3)), np.zeros(3))
        for number, right in enumerate((True, True, False))
    ]
    values = [np.array([1.0, 5.0]), np.array([3.0]), np.array([1.0, 2.0, 90.0])]
    found = effective_rank.right_less_wrong(effective_rank.Texts.of(texts), values)
    assert found.value == pytest.approx((2 / 3 * 1 + 1 / 2 * 3) / (2 / 3 + 1 / 2))


def test_of_a_reasoning_only_its_own_ranks_count() -> None:
    nats, ranks = np.full(WINDOW + 3 * STRIDE, 0.5), np.array([20.0, 21.0, 23.0, 50.0])
    ((key, one),) = watched(0, True, nats, ranks).items()
    assert one.answer.forkpoint is not None
    one.answer.forkpoint["trace"]["in_reasoning"][-2:] = [0, 0]
    (text,) = effective_rank.ranked({key: one})
    assert text.ranks.tolist() == [20.0, 21.0, 23.0]


def test_the_policy_is_of_the_library() -> None:
    assert not isinstance(WATCHED.policy, str)
    policy = LIBRARY[WATCHED.policy["use"]].use(WATCHED.policy["with"])
    assert (policy.rules[0].when.rank_window, policy.rules[0].when.rank_stride) == (WINDOW, STRIDE)
