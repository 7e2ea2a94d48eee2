"""Findings: verdicts are no surer than intervals; what was planted is found, and what was not is not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.evaluate.stats import Estimate, Floats
from forkpoint_clients.findings.base import Result
from forkpoint_clients.findings.catalog import (
    FINDINGS,
    branching,
    connectors,
    dynamics,
    early_exit,
    entropy_law,
    fork_temperature,
    fork_validity,
    sparse_forks,
)
from forkpoint_clients.findings.lab import LabSetting, Treatment
from forkpoint_clients.findings.measures import bootstrapped
from forkpoint_clients.findings.reading import EntropyTrace, ScoredChoices, traces
from forkpoint_clients.findings.report import FindingsReport, RetestedFinding
from forkpoint_clients.findings.verdict import Criterion, Verdict, together
from forkpoint_policies.spec import parse_policy

QUESTIONS = 100
ANSWERS = dict[tuple[str, int], ScoredChoices]


def part(low: float, high: float, claimed: Any = "above", bound: float = 0.0, value: float | None = None) -> Criterion:
    middle = (low + high) / 2 if value is None else value
    return Criterion("a figure", Estimate(middle, low, high, (high - low) / 3.92), claimed, bound, 100, "points")


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (part(0.01, 0.2), "reproduced"),
        (part(-0.2, -0.01), "not reproduced"),
        (part(-0.2, -0.01, "below"), "reproduced"),
        (part(0.01, 0.2, "below"), "not reproduced"),
        (part(-0.01, 0.2), "undecided"),
        (part(-0.01, 0.2, "below"), "undecided"),
        (part(-0.03, 0.02, bound=-0.05), "reproduced"),
        (part(-0.09, 0.02, bound=-0.05), "undecided"),
        (part(-0.2, -0.06, bound=-0.05), "not reproduced"),
        (part(0.0, 0.2), "undecided"),
        (part(math.nan, math.nan, value=1.0), "undecided"),
        (part(1.0, 1.0), "undecided"),
        (part(0.5 - 1e-16, 0.5 + 1e-16), "undecided"),
        (part(math.nextafter(0.5, 0), math.nextafter(0.5, 1)), "undecided"),
    ],
)
def test_a_verdict_is_no_surer_than_its_interval(one: Criterion, word: str) -> None:
    assert one.verdict.word == word


def test_what_is_undecided_says_how_many_questions_would_decide_it() -> None:
    near, far = part(-0.09, 0.11).verdict, part(-0.02, 0.18).verdict
    assert near.needed is not None
    assert far.needed is not None
    assert near.needed > far.needed > 100  # of a smaller difference more; and never as few as there were
    # 0.01 from zero with an error of 0.2 / 3.92: 100 * ((1.96 + 0.84) * 0.051 / 0.01)**2
    assert near.needed == pytest.approx(20_430, rel=0.01)
    assert "n needed: 20," in str(near)
    assert str(part(math.nan, math.nan, value=0.0).verdict) == "undecided"
    assert part(-0.1, 0.1).verdict.needed is None  # no number of questions tells zero from zero


def test_bootstraps_allow_for_few_questions() -> None:
    """Of five questions' means, nominal 95 % intervals hold the truth about as often as they say, and 1.96 errors would not."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(300):
        values = random.normal(size=5)

        def mean(weights: Floats, values: Floats = values) -> float:
            return float(weights @ values / weights.sum())

        found = bootstrapped(mean, 5, draws=200)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) > 0.92
    assert math.isnan(bootstrapped(lambda weights: 1.0, 1).low)


def test_what_is_needed_are_questions_that_are_asked() -> None:
    """Of which the figure may be of every fifth only."""
    every, fifth = part(-0.02, 0.18), replace(part(-0.02, 0.18), each=5.0)
    assert every.verdict.needed is not None
    assert fifth.verdict.needed == 5 * every.verdict.needed
    assert (replace(fifth, questions=6).verdict.needed or 0) >= 5 * 10
    items = [Item("q", ())] * 100
    setting = LabSetting(items, items, scorer("exact"))
    assert (len(setting.verified), len(replace(setting, items=items[:10]).verified)) == (20, 10)
    tried = [
        fork_validity.TestedPosition(f"q{n}", high, 1.0, n % (3 if high else 4) == 0, 0.2)
        for n in range(24)
        for high in (True, False)
    ]
    alone, shared = fork_validity.conclude(tried, 0.5, 8), fork_validity.conclude(tried, 0.5, 8, each=5.0)
    assert alone.verdict.needed is not None
    assert shared.verdict.needed == 5 * alone.verdict.needed


def test_few_questions_decide_nothing() -> None:
    verdict = replace(part(0.1, 0.2), questions=9).verdict
    assert (verdict.word, verdict.needed) == ("undecided", 10)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "undecided"], "undecided"),
        (["undecided", "not reproduced"], "not reproduced"),
        ([], "undecided"),
    ],
)
def test_a_claim_holds_when_all_of_it_does(words: Sequence[Any], word: str) -> None:
    assert together([Verdict(one, 7 if one == "undecided" else None) for one in words]).word == word


def reading(right: float, tokens: int = 100, effect: float = 1.0, **told: Any) -> ScoredChoices:
    forkpoint = {
        "interventions": {"suppress": {"fired": 3, "effect": effect}},
        "threshold": 0.5,
        "mean_entropy": 0.3,
        **told,
    }
    return ScoredChoices(Answer((Choice("1 + 2", "so", "stop"),), tokens, tokens - 5, 0.1, forkpoint, "id"), (right,))


def arm(share: float, tokens: float = 100, seed: int = 0, **told: Any) -> ANSWERS:
    """Answers of which about so many are right, at random by question."""
    random = np.random.default_rng(seed)
    drawn = random.random(QUESTIONS) < share
    return {
        (f"q{n}", 0): reading(float(drawn[n]), round(tokens * random.uniform(0.9, 1.1)), **told)
        for n in range(QUESTIONS)
    }


def words(result: Result) -> list[str]:
    return [claim.verdict.word for claim in result.claims]


def test_fork_temperature_finds_what_is_planted() -> None:
    def found(*answers: ANSWERS) -> Result:
        return fork_temperature.conclude(dict(zip(fork_temperature.NAMES, answers, strict=True)), 0.2, 0.25)

    assert found(arm(0.9), arm(0.9), arm(0.3), arm(0.3), arm(0.1)).verdict.word == "reproduced"
    assert found(arm(0.9), arm(0.2), arm(0.9), arm(0.9), arm(0.9)).verdict.word == "not reproduced"
    assert found(*(arm(0.5, seed=n) for n in range(5))).verdict.word == "undecided"
    dose = found(arm(0.9), arm(0.9), arm(0.9), arm(0.3), arm(0.1))
    assert dose.verdict.word != "reproduced", "where random positions lose no more, it is not their being forks"
    assert sum(part.alpha for part in dose.claims[0].parts) == pytest.approx(0.05)
    assert "3 (forks), 3 (random positions), 3 (as many execution tokens)" in dose.notes[0]


def test_as_many_execution_tokens_are_heated_as_there_are_forks() -> None:
    texts = [trace(f"q{n}", [" a"] * 100, [1.0] * 30 + [0.1] * 50 + [1.0] * 20, reasoning=80) for n in range(3)]
    assert fork_temperature.share_of(texts) == (0.375, 0.6)
    policy = fork_temperature.arms(0.6)[3].policy
    assert isinstance(policy, Mapping)
    (rule,) = policy["rules"]
    assert rule["when"] == {"region": "reasoning", "entropy_below": "fork", "probability": 0.6}
    assert fork_temperature.share_of([trace("q", [" a"], [1.0])])[1] == 1.0
    assert fork_temperature.share_of([trace("q", [" a"], [0.1])])[1] > 0


def test_connectors_finds_what_is_planted() -> None:
    names = [one.name for one in connectors.ARMS]
    hurt = [arm(0.9), arm(0.2), arm(0.9), arm(0.9), arm(0.9, tokens=60), arm(0.9), arm(0.9)]
    assert words(connectors.conclude(dict(zip(names, hurt, strict=True)))) == ["reproduced", "reproduced"]
    harmless = [arm(0.5), arm(0.9), arm(0.5), arm(0.5), arm(0.1, tokens=130), arm(0.5), arm(0.5)]
    assert words(connectors.conclude(dict(zip(names, harmless, strict=True)))) == ["not reproduced", "not reproduced"]
    same = [arm(0.5, seed=n) for n in range(7)]
    found = connectors.conclude(dict(zip(names, same, strict=True)))
    assert words(found) == ["undecided", "not reproduced"]  # as long as without a policy is certainly not shorter
    assert found.claims[1].parts[0].estimate.value == pytest.approx(0.0, abs=0.05)


BESIDE = (1, -1, 0, 0, -1, 1)
"""Neither rises nor falls."""


def entropies(a: float, b: float, spread: float) -> dict[float, ANSWERS]:
    """Runs that follow R = -a exp(H) + b, with H from 0.1 to 0.6, whichever temperature; `spread` beside it."""
    found = {}
    for number, at in enumerate(entropy_law.TEMPERATURES):
        nats = 0.1 * (number + 1)
        share = -a * math.exp(nats) + b + spread * BESIDE[number]
        found[at] = {
            (f"q{n}", 0): reading(float((n * 7 + number) % 400 < 400 * share), mean_entropy=nats) for n in range(400)
        }
    return found


def test_entropy_law_finds_its_constants() -> None:
    found = entropy_law.conclude(entropies(0.8, 1.6, 0.0))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.8, abs=0.03)
    assert next(one for one in found.figures if "ceiling" in one.what).estimate.value == pytest.approx(0.8, abs=0.02)
    assert entropy_law.conclude(entropies(-0.5, 0.0, 0.0)).verdict.word == "not reproduced"  # it rises
    always = entropy_law.conclude(entropies(0.0, 1.0, 0.0))
    assert (always.verdict.word, always.claims[0].parts[0].estimate.value) == ("undecided", 0.0)  # all are right
    flat = entropy_law.conclude(entropies(0.0, 0.5, 0.1))
    assert flat.verdict.word == "undecided"  # there is no law
    assert next(one for one in flat.figures if "variance" in one.what).estimate.value < 0.3


def trace(
    question: str, tokens: Sequence[str], nats: Sequence[float], threshold: float = 0.5, reasoning: int | None = None
) -> EntropyTrace:
    inside = np.arange(len(tokens)) < (len(tokens) if reasoning is None else reasoning)
    return EntropyTrace(
        question, tuple(tokens), np.array(nats, np.float64), inside, threshold, "3", "so", finished=True
    )


def written(sparse: bool, seed: int) -> list[EntropyTrace]:
    """Texts with a connector at every tenth token; either all entropy is there, or everywhere alike."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(40):
        size = int(random.integers(80, 160))
        tokens = [" Wait" if place % 10 == 5 else f" {place % 7}" for place in range(size)]
        nats = (
            random.uniform(0.5, 1.5, size)
            if not sparse
            else np.array([random.uniform(1.3, 1.7) if token == " Wait" else 0.001 for token in tokens])
        )
        found.append(trace(f"q{number}", tokens, nats.tolist()))
    return found


def test_sparse_forks_finds_what_is_planted() -> None:
    found = sparse_forks.conclude(written(sparse=True, seed=0))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.9, abs=0.01)
    assert found.figures[0].estimate.value == pytest.approx(1.0, abs=0.01)
    assert found.tables[0].rows[0][0] == "' Wait'"
    flat = sparse_forks.conclude(written(sparse=False, seed=1))
    assert flat.verdict.word == "not reproduced"
    assert flat.claims[0].parts[1].verdict.word == "undecided"
    assert sparse_forks.conclude([]).verdict.word == "undecided"


def test_dynamics_finds_peaks_and_drifts() -> None:
    found = dynamics.conclude(written(sparse=True, seed=2))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(1.499, abs=0.05)
    assert dynamics.conclude(written(sparse=False, seed=3)).verdict.word == "undecided"
    falling = [trace(f"q{n}", [" a"] * 100, np.linspace(2.0, 0.6 + n / 100, 100).tolist()) for n in range(20)]
    assert dynamics.change(falling, planning=True).high < -0.8
    assert [place for place, _ in dynamics.drift(falling, planning=True)] == list(range(1, 11))
    assert math.isnan(dynamics.change(falling, planning=False).value)
    assert math.isnan(dynamics.conclude(falling).claims[0].parts[0].estimate.value)  # no connector


def test_fork_validity_finds_what_is_planted() -> None:
    def tried(high: float, low: float, seed: int) -> list[fork_validity.TestedPosition]:
        random = np.random.default_rng(seed)
        kinds = [n % 8 < 4 for n in range(400)]
        drawn = [bool(random.random() < (high if kind else low)) for kind in kinds]
        return [
            fork_validity.TestedPosition(f"q{n // 8}", kind, 1.0 if kind else 0.05, drawn[n], 0.2)
            for n, kind in enumerate(kinds)
        ]

    assert words(fork_validity.conclude(tried(0.8, 0.1, 0), 0.5, 16)) == ["reproduced", "not reproduced"]
    assert words(fork_validity.conclude(tried(0.1, 0.5, 1), 0.5, 16)) == ["not reproduced", "reproduced"]
    assert words(fork_validity.conclude(tried(0.3, 0.3, 2), 0.5, 16))[0] == "undecided"
    assert words(fork_validity.conclude([], 0.5, 16)) == ["undecided", "undecided"]


def test_few_verified_forks_decide_nothing() -> None:
    """One low-entropy position in each of 5 of 10 texts: the test of signs gives 0.06, and a bootstrap would be certain."""
    found = [
        fork_validity.TestedPosition(f"q{text}", high, 1.0, not high and place == 0 and text < 5, 0.2)
        for text in range(10)
        for high in (True, False)
        for place in range(3)
    ]
    (part,) = fork_validity.conclude(found, 0.5, 12).claims[0].parts
    assert part.estimate.value == pytest.approx(-5 / 30)
    assert part.estimate.high > 0
    assert part.verdict.word == "undecided"


def test_positions_are_of_both_kinds_and_inside_the_reasoning() -> None:
    found = [
        trace(f"q{n}", [" a"] * 50, [1.0 if place % 5 == 0 else 0.01 for place in range(50)], reasoning=40)
        for n in range(3)
    ]
    positions, border = fork_validity.chosen(found, seed=1)
    assert border < 1.0
    for some in positions.values():
        assert len([place for place in some if place % 5 == 0]) == fork_validity.EACH
        assert len(some) == 2 * fork_validity.EACH
        assert max(some) < 40
    assert positions == fork_validity.chosen(found, seed=1)[0]
    assert positions != fork_validity.chosen(found, seed=2)[0]


def test_a_position_that_was_read_otherwise_is_left_out() -> None:
    one = {
        "index": 1,
        "token": " b",
        "entropy": 0.9,
        "alternatives": [{}, {"probability": 0.1}],
        "verified": {"verified": True},
    }
    texts = {"q": trace("q", [" a", " b"], [0.1, 0.9])}
    assert [place.high for place in fork_validity.tried({"q": [one]}, texts, 0.5)] == [True]
    assert list(fork_validity.tried({"q": [{**one, "token": " c"}]}, texts, 0.5)) == []


def choices(right: Sequence[bool], tokens: int) -> ScoredChoices:
    """One request; every wrong answer says something else."""
    said = tuple(Choice("right" if one else f"wrong {n}", "", "stop") for n, one in enumerate(right))
    return ScoredChoices(Answer(said, tokens), tuple(map(float, right)))


def trees(share: float, tokens: int, seed: int) -> ANSWERS:
    random = np.random.default_rng(seed)
    return {(f"q{n}", 0): choices((random.random(4) < share).tolist(), tokens) for n in range(QUESTIONS)}


def test_branching_finds_what_is_planted() -> None:
    random = np.random.default_rng(0)
    alone = {(f"q{n}", k): choices([bool(random.random() < 0.2)], 100) for n in range(QUESTIONS) for k in range(4)}
    better = branching.conclude(alone, {"branch": trees(0.7, 200, 1), "branch.placebo": trees(0.1, 200, 2)}, 4, "text")
    assert better.verdict.word == "reproduced"
    worse = branching.conclude(alone, {"branch": trees(0.02, 400, 3), "branch.placebo": trees(0.5, 400, 4)}, 4, "text")
    assert worse.verdict.word == "not reproduced"
    same = branching.conclude(alone, {"branch": trees(0.2, 400, 5), "branch.placebo": trees(0.2, 400, 6)}, 4, "text")
    assert same.verdict.word == "undecided"
    assert same.claims[0].parts[0].estimate.value == pytest.approx(0, abs=0.12)


def test_independent_samples_are_counted_as_many_as_cost_the_same() -> None:
    """A tree that costs as much as two samples is beside two: of (1, 0, 0, 0) right, two have it half of the time."""
    alone = {(f"q{n}", k): choices([k == 0], 100) for n in range(4) for k in range(4)}
    tree = {(f"q{n}", 0): choices([True, False], 200) for n in range(4)}
    found = branching.conclude(alone, {"branch": tree, "branch.placebo": tree}, 4, "text")
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.5)
    half = {(f"q{n}", 0): choices([True, False], 250) for n in range(4)}
    found = branching.conclude(alone, {"branch": half, "branch.placebo": half}, 4, "text")
    assert found.claims[0].parts[0].estimate.value == pytest.approx(1 - 0.625)


def test_an_answer_without_a_score_is_not_a_wrong_one() -> None:
    alone = {(f"q{n}", k): choices([True], 100) for n in range(20) for k in range(4)}
    tree = {(f"q{n}", 0): choices([True, True], 200) for n in range(20)}
    thrown = {key: replace(one, scores=(1.0, None)) if key[0] == "q3" else one for key, one in tree.items()}
    found = branching.conclude(alone, {"branch": thrown, "branch.placebo": tree}, 4, "text")
    assert [one.estimate.value for one in found.claims[0].parts] == [0.0, 0.0]
    alone["q4", 0] = replace(alone["q4", 0], scores=(None,))
    found = branching.conclude(alone, {"branch": tree, "branch.placebo": tree}, 4, "text")
    assert found.claims[0].parts[0].questions == 19


def test_intervals_allow_for_costs_that_are_estimated() -> None:
    """Trees of very different cost, against a steep curve: most of what is not known is how many samples cost as much."""
    alone = {(f"q{n}", k): choices([k == n % 4], 100) for n in range(20) for k in range(4)}
    same = {(f"q{n}", 0): choices([n % 2 == 0], 250) for n in range(20)}
    unlike = {(f"q{n}", 0): choices([n % 2 == 0], 490 if n < 10 else 10) for n in range(20)}
    found = [
        branching.conclude(alone, {"branch": one, "branch.placebo": one}, 4, "text").claims[0].parts[0].estimate
        for one in (same, unlike)
    ]
    assert found[0].value == pytest.approx(found[1].value)
    # 0 or 1 has a deviation of 0.5; 240 tokens more or less are 2.4 samples, worth 0.25 each
    assert found[0].error == pytest.approx(math.sqrt(0.25 / 19), rel=0.1)
    assert found[1].error == pytest.approx(math.sqrt((0.25 + 0.6**2) / 19), rel=0.1)


@pytest.mark.parametrize(
    ("scores", "answers", "expected"),
    [
        ((1, 0, 0), ("a", "b", "b"), 0.0),
        ((1, 0), ("a", "b"), 0.5),
        ((1, 1, 0), ("a", "a", "b"), 1.0),
        ((1,), (None,), 0.0),
    ],
)
def test_the_majority_is_of_answers_and_ties_share(
    scores: Sequence[float], answers: Sequence[str | None], expected: float
) -> None:
    assert branching.majority(scores, answers) == expected


def test_early_exit_finds_what_is_planted() -> None:
    def answers(policy: float, placebo: float) -> dict[str, ANSWERS]:
        return {
            f"{one.name}{suffix}": arm(share, seed=3)
            for one in early_exit.EXITS
            for suffix, share in (("", policy), (".placebo", placebo))
        }

    def against(share: float, seed: int) -> dict[str, ANSWERS]:
        return {
            one.name: {key: own for key, own in arm(share, seed=seed).items() if int(key[0][1:]) >= QUESTIONS // 2}
            for one in early_exit.EXITS
        }

    caps = {one.name: 50 for one in early_exit.EXITS}
    assert set(words(early_exit.conclude(arm(0.9), answers(0.9, 0.2), against(0.2, 3), caps))) == {"reproduced"}
    assert set(words(early_exit.conclude(arm(0.9), answers(0.2, 0.9), against(0.9, 3), caps))) == {"not reproduced"}
    same = early_exit.conclude(arm(0.5), answers(0.5, 0.5), against(0.5, 4), caps)
    assert set(words(same)) == {"undecided"}
    parts = [one for claim in same.claims for one in claim.parts]
    assert sum(one.alpha for one in parts) == pytest.approx(0.05), "95 % holds for all on which the verdict rests"
    assert [one.each for one in parts] == [2.0, 1.0] * 3, "the cap is compared on the second half"


def test_an_exit_that_ends_nothing_is_told_of() -> None:
    base = arm(0.5, tokens=100)
    answers = {one.name: arm(0.5, tokens=100) for one in early_exit.EXITS} | {"deer": arm(0.5, tokens=50)}
    assert [note.split()[0] for note in early_exit.idle(base, answers)] == ["answer-convergence", "eat"]


def test_the_cap_has_the_mean_length_of_the_policy() -> None:
    found = [
        trace(f"q{n}", [" a"] * size, [0.1] * size, reasoning=size - 10) for n, size in enumerate((110, 210, 310, 410))
    ]
    spent = {("q0", 0): reading(1.0, 160), ("q1", 0): reading(1.0, 160)}
    cap = early_exit.cap_for(spent, found)
    assert np.mean([min(size, cap) + 10 for size in (100, 200, 300, 400)]) == pytest.approx(160, abs=1)
    longer = {("q0", 0): reading(1.0, 9000)}
    assert early_exit.cap_for(longer, found) == 400


EAT = early_exit.EXITS[2]
INLINE = [*(one.policy for one in fork_temperature.arms(0.25)[1:]), EAT.policy(600), EAT.policy(600, placebo=True)]


@pytest.mark.parametrize("policy", INLINE)
def test_policies_are_policies(policy: Mapping[str, Any]) -> None:
    parse_policy(policy)


def test_arms_that_ask_for_the_same_are_asked_once() -> None:
    assert Treatment("one", {"use": "nowait"}, 1.0).key == Treatment("other", {"use": "nowait"}).key
    assert (
        len(
            {
                one.key
                for one in (
                    Treatment("x"),
                    Treatment("x", "nowait"),
                    Treatment("x", temperature=0.5),
                    Treatment("x", answers=4),
                )
            }
        )
        == 4
    )


def test_a_trace_that_is_not_whole_is_none() -> None:
    whole = {"tokens": [" a", " b"], "positions": [0, 1], "entropies": [0.1, 0.2], "in_reasoning": [1, 0]}
    assert len(traces({("q", 0): reading(1.0, trace=whole)})) == 1
    assert traces({("q", 0): reading(1.0, trace={**whole, "positions": [0, 2]})}) == []
    assert traces({("q", 0): reading(1.0)}) == []


RESULTS: Mapping[str, Callable[[], Result]] = {
    "sparse-forks": lambda: sparse_forks.conclude(written(sparse=True, seed=0)),
    "dynamics": lambda: dynamics.conclude(written(sparse=False, seed=0)),
    "connectors": lambda: connectors.conclude({one.name: arm(0.5, seed=n) for n, one in enumerate(connectors.ARMS)}),
    "entropy-law": lambda: entropy_law.conclude(entropies(0.8, 1.6, 0.0)),
}


@cache
def report() -> FindingsReport:
    """Some findings, and one that could not be tested."""
    tested = [RetestedFinding(FINDINGS[name], make()) for name, make in RESULTS.items()]
    tested.append(RetestedFinding(FINDINGS["branching"], cannot="needs a <Forkpoint> & more"))
    asked = {"model": "m", "data": "d.jsonl", "questions": 80, "scorer": "exact", "seed": 3}
    return FindingsReport(tested, "forkpoint findings --seed 3", asked, {"said": "Nothing was asked.", "tokens": 0})


def test_the_report_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    found = report()
    found.write(tmp_path)
    told = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda _: pytest.fail("JSON has no NaN"))
    assert [one["name"] for one in told["findings"]] == [*RESULTS, "branching"]
    assert {one["verdict"] for one in told["findings"]} <= {"reproduced", "not reproduced", "undecided"}
    assert told["findings"][-1]["cannot"] == "needs a <Forkpoint> & more"
    assert all(one["claims"][0]["parts"] for one in told["findings"][:-1])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == sum(len(one.result.plots) for one in found.tested if one.result) == 5
    assert "needs a &lt;Forkpoint&gt; &amp; more" in page
    assert "src=" not in page
    assert all(FINDINGS[name].question in page for name in RESULTS)


def test_the_markdown_page_has_its_plots_beside_it(tmp_path: Path) -> None:
    report().write_markdown(tmp_path / "docs" / "findings.md")
    page = (tmp_path / "docs" / "findings.md").read_text()
    plots = sorted((tmp_path / "docs" / "findings").iterdir())
    assert [f"findings/{plot.name}" in page for plot in plots] == [True] * len(plots) != []
    assert all(plot.stat().st_size < 100_000 and "currentColor" not in plot.read_text() for plot in plots)
    assert "forkpoint findings --seed 3" in page
    assert "&lt;" not in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)


def test_every_file_is_a_finding_with_a_source() -> None:
    assert list(FINDINGS) == [
        "sparse-forks", "dynamics", "fork-validity", "fork-temperature", "connectors", "entropy-law", "branching", "early-exit",
    ]  # fmt: skip
    assert all(one.claim and one.source and one.protocol and one.question for one in FINDINGS.values())
