"""Statistics against scipy, statsmodels and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from benchmarks.coverage import Scores, paired_scores
from forkpoint_clients.evaluate.stats import (
    Estimate,
    ScoredLengths,
    at_equal_mean,
    clusters_needed,
    correlation_within,
    holm,
    mean,
    proportion,
    wilson,
)


def test_a_balanced_mean_is_the_t_interval_of_the_clusters_means() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(40, 5)) + random.normal(size=(40, 1))
    found = mean(values.ravel(), np.repeat(np.arange(40), 5))
    of_means = values.mean(axis=1)
    expected = scipy_stats.ttest_1samp(of_means, 0).confidence_interval()
    # statsmodels' correction for few answers, (N - 1) / (N - 1), is none with one parameter
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(of_means, 0).pvalue)
    assert found.error == pytest.approx(scipy_stats.sem(of_means))


def test_clusters_count_once() -> None:
    """The same answer many times counts as one."""
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    alone = mean(values, np.arange(6))
    copied = mean(np.repeat(values, 10), np.repeat(np.arange(6), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_few_clusters() -> None:
    assert math.isnan(mean([1.0, 2.0], ["a", "a"]).low)
    assert not mean([1.0, 2.0], ["a", "a"]).excludes_zero
    with pytest.raises(ValueError, match="no values"):
        mean([], [])


def test_the_interval_of_constant_values_allows_for_unseen_ones() -> None:
    same = mean(np.zeros(100), np.arange(100), bound=1.0)
    share = scipy_stats.binomtest(0, 100, alternative="less").proportion_ci(0.95).high
    assert (same.low, same.high, same.p) == pytest.approx((-share, share, 1.0))
    every = mean(np.ones(10), np.arange(10), bound=1.0)
    assert every.high == 1.0
    assert every.low == pytest.approx(1 - 2 * (1 - 0.05**0.1))
    assert every.p == pytest.approx(2 * 0.5**10)
    assert (mean(np.zeros(9), np.arange(9)).low, mean(np.zeros(9), np.arange(9)).high) == (0.0, 0.0)


def test_the_interval_of_equal_cluster_means_is_that_of_constant_values() -> None:
    """One better and one equal answer per question: a sandwich interval of no width is chance, not certainty."""
    same = mean(np.tile([1.0, 0.0], 12), np.repeat(np.arange(12), 2), bound=1.0)
    alike = mean(np.full(12, 0.5), np.arange(12), bound=1.0)
    assert (same.value, same.low, same.high, same.p) == pytest.approx((0.5, alike.low, alike.high, alike.p))
    assert same.high - same.low > 0.4
    assert 2 * 0.5**12 < same.p < 0.01
    thirds = mean(np.tile([0.1, 0.2, 0.6], 30), np.repeat(np.arange(30), 3), bound=1.0)
    assert thirds.low < 0.3 - 0.1 < 0.3 + 0.05 < thirds.high
    none = mean(np.tile([0.1, 0.2, -0.3], 30), np.repeat(np.arange(30), 3), bound=1.0)
    assert none.p == pytest.approx(1.0)
    share = proportion(np.tile([1.0, 0.0], 12), np.repeat(np.arange(12), 2))
    few = proportion([1.0] * 6 + [0.0] * 6, np.arange(12))
    assert share.high - share.low == pytest.approx(few.high - few.low, rel=0.05)  # of 24 answers as of 12


@pytest.mark.parametrize("right", [0, 3, 30, 57, 60])
def test_a_proportion_of_single_answers_is_nearly_wilsons(right: int) -> None:
    found = proportion([1.0] * right + [0.0] * (60 - right), np.arange(60))
    low, high = wilson(right, 60)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)
    exact = scipy_stats.binomtest(right, 60).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((exact.low, exact.high))


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), min_size=1, max_size=40))
def test_a_proportion_stays_in_its_bounds(answers: list[tuple[int, float]]) -> None:
    found = proportion([score for _, score in answers], [question for question, _ in answers])
    if not math.isnan(found.low):
        assert -1e-9 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 1 + 1e-9


def test_intervals_hold_what_they_promise() -> None:
    """Of questions of different difficulty, four answers each; 95 % of the intervals hold the truth, save chance."""
    random = np.random.default_rng(2)
    questions = np.repeat(np.arange(40), 4)
    truth = 0.6 - scipy_stats.beta(0.6, 0.4).expect(lambda x: max(x - 0.1, 0))
    inside = []
    for _ in range(400):
        difficulty = random.beta(0.6, 0.4, 40)[questions]
        own, other = (random.random(160) < difficulty), (random.random(160) < np.clip(difficulty - 0.1, 0, 1))
        share, difference = proportion(own, questions), mean(own.astype(float) - other, questions)
        inside.append((share.low <= 0.6 <= share.high, difference.low <= truth <= difference.high))
    assert (np.mean(inside, axis=0) > 0.925).all()


@pytest.mark.parametrize(("agree", "alpha"), [(0.9, 0.05), (0.9, 0.05 / 6), (0.98, 0.05), (0.5, 0.025)])
@pytest.mark.parametrize("count", [10, 24, 50, 100])
def test_intervals_hold_where_arms_differ_in_few_questions(count: int, agree: float, alpha: float) -> None:
    """With all differences of one sign, the worst case, Student's interval covers the truth in 87 % instead of 95 %.

    All outcomes of this many pairs are enumerated, so that the share is exact.
    """
    chances = scipy_stats.binom(count, 1 - agree).pmf(np.arange(count + 1))
    differing = np.flatnonzero(chances > 1e-6)
    found = [
        mean(np.repeat([0.0, -1.0], [count - some, some]), np.arange(count), alpha, bound=1.0) for some in differing
    ]
    held = sum(
        chance for chance, one in zip(chances[differing], found, strict=True) if one.low <= agree - 1 <= one.high
    )
    assert held > 1 - 1.4 * alpha  # shares of so few are steps
    for one in found:
        assert -1 <= one.low <= one.value <= one.high <= 1
        assert (one.p < 0.9 * alpha) <= one.excludes_zero  # the interval excludes zero where the test rejects it


def test_five_pairs_that_all_fell_out_one_way_are_not_certain() -> None:
    """0 right of 24 against 5: McNemar's exact test gives 0.06, Student's interval left nought out even at 97.5 %."""
    pairs = np.array([-1.0] * 5 + [0.0] * 19)
    assert scipy_stats.binomtest(5, 5).pvalue == pytest.approx(0.0625)
    assert mean(pairs, np.arange(24), alpha=0.025).excludes_zero
    found = mean(pairs, np.arange(24), alpha=0.025, bound=1.0)
    assert not found.excludes_zero
    assert found.value == pytest.approx(-5 / 24)
    assert found.p == pytest.approx(0.058, abs=0.003)


def test_bounded_differences_add_the_squares_of_unseen_questions() -> None:
    """Of single answers, one question in either direction; of independent ones, one answer of one question."""
    for better, worse, count in ((7, 2, 60), (0, 3, 30), (12, 12, 40)):
        values = np.array([1.0] * better + [-1.0] * worse + [0.0] * (count - better - worse))
        found = mean(values, np.arange(count), bound=1.0)
        spread = math.sqrt((np.square(values - values.mean()).sum() + 2) / (count * (count - 1)))
        far = scipy_stats.t(count - 1).ppf(0.975) * spread
        assert (found.low, found.high) == pytest.approx((found.value - far, found.value + far))
    random = np.random.default_rng(5)
    independent = random.integers(-1, 2, (4000, 4)).astype(float).ravel()
    assert mean(independent, np.repeat(np.arange(4000), 4), bound=1.0).unseen == pytest.approx(0.25, abs=0.02)
    alike = np.repeat(random.integers(-1, 2, 40), 4).astype(float)
    assert mean(alike, np.repeat(np.arange(40), 4), bound=1.0).unseen == pytest.approx(math.sqrt(2))
    assert mean(alike[::4], np.arange(40), bound=1.0).unseen == pytest.approx(math.sqrt(2))


def test_the_correlation_within_questions_is_that_of_a_mixed_model() -> None:
    """Values of unequally many answers a question; the moments' estimate, like REML, recovers the true 0.4."""
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(3000), random.integers(1, 7, 3000))
    values = math.sqrt(0.4) * random.normal(size=3000)[groups] + math.sqrt(0.6) * random.normal(size=len(groups))
    assert correlation_within(values, groups) == pytest.approx(0.4, abs=0.03)
    assert correlation_within(random.normal(size=len(groups)), groups) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("questions", [10, 24, 50])
@pytest.mark.parametrize("samples", [4, 8])
def test_with_several_samples_differences_are_found_as_often_as_by_student(questions: int, samples: int) -> None:
    """Coverage of at least 95 % save chance, and power within .05 of the clustered t's, where arms share their seeds.

    `make bench ARGS=coverage` makes the whole table.
    """
    row = paired_scores(questions, samples, Scores(0.4, 0.2), repeats=400, seed=7)
    assert row.covered >= 0.93
    assert row.found >= row.found_by_student - 0.05
    assert row.covered >= row.covered_by_student


def test_clusters_needed_have_the_power_that_was_asked_for() -> None:
    """The number of questions that the simulation of the interval says is put to the test with answers."""
    random = np.random.default_rng(8)
    for samples in (1, 4):
        pilot = (random.random((9000, samples)) < 0.65).astype(float) - (random.random((9000, samples)) < 0.4)
        seen = mean(pilot.ravel(), np.repeat(np.arange(9000), samples), bound=1.0)
        needed = clusters_needed(seen, 9000, 0.25)
        assert needed is not None
        questions, found = np.repeat(np.arange(needed), samples), 0
        for _ in range(300):
            own = (random.random(needed * samples) < 0.65).astype(float)
            found += mean(own - (random.random(needed * samples) < 0.4), questions, bound=1.0).excludes_zero
        assert 0.73 <= found / 300 <= 0.87
    wider = clusters_needed(Estimate(0.02, error=0.05, unseen=10.0), 100, 0.1)
    assert wider is not None
    assert wider > 300


def test_corrections() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_how_many_more() -> None:
    """A t-test of so many questions has the required power."""
    seen = Estimate(0.02, error=0.05)
    needed = clusters_needed(seen, 100, 0.1)
    assert needed is not None
    assert needed == pytest.approx(199, abs=2)
    shift = 0.1 / (0.05 * math.sqrt(100) / math.sqrt(needed))
    power = scipy_stats.nct(needed - 1, shift).sf(scipy_stats.t.ppf(0.975, needed - 1))
    assert power == pytest.approx(0.8, abs=0.01)
    assert clusters_needed(Estimate(0.0), 100, 0.1) is None
    assert clusters_needed(seen, 100, 0) is None


def test_a_cap_takes_the_score_of_what_is_longer() -> None:
    arm = ScoredLengths(np.array([1.0, 1.0, 0.0]), np.array([10.0, 20.0, 30.0]))
    assert arm.capped(9).tolist() == [0, 0, 0]
    assert arm.capped(10).tolist() == [1, 0, 0]
    assert arm.capped(20).tolist() == [1, 1, 0]


def test_equal_mean_of_an_arm_with_itself_shows_no_difference() -> None:
    random = np.random.default_rng(3)
    arm = ScoredLengths((random.random(200) < 0.5).astype(float), random.integers(1, 900, 200).astype(float))
    found = at_equal_mean(arm, arm, np.repeat(np.arange(50), 4))
    assert found.tokens == pytest.approx(arm.tokens.mean())
    assert found.own == found.other == pytest.approx(arm.scores.mean())
    assert found.difference == mean(np.zeros(50), np.arange(50), bound=1.0)


def test_equal_mean_finds_the_cap_by_hand() -> None:
    """Means 20 and 10: the longer is cut at 15, where min(10, 15), min(15, 15) … have the mean 10 if half of them are 5
    tokens.
    """
    longer = ScoredLengths(np.array([1.0, 1.0, 1.0, 1.0]), np.array([5.0, 5.0, 15.0, 55.0]))
    shorter = ScoredLengths(np.array([1.0, 0.0, 1.0, 0.0]), np.array([10.0, 10.0, 10.0, 10.0]))
    found = at_equal_mean(longer, shorter, np.arange(4))
    assert found.tokens == 10
    assert found.other == 0.5
    assert found.own == 0.75  # cut at 15: 5 + 5 + 15 + 15 = 40; the last has no answer
    assert found.difference.value == 0.25


def test_the_bootstrap_agrees_with_the_formula_where_there_is_one() -> None:
    """All lengths are equal: nothing is cut, so the result is the plain paired difference."""
    random = np.random.default_rng(4)
    questions = np.repeat(np.arange(120), 2)
    tokens = np.full(240, 100.0)
    own, other = (random.random(240) < 0.6).astype(float), (random.random(240) < 0.45).astype(float)
    plain = mean(own - other, questions)
    found = at_equal_mean(ScoredLengths(own, tokens), ScoredLengths(other, tokens), questions).difference
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.012)
    assert found.error == pytest.approx(plain.error, rel=0.08)
