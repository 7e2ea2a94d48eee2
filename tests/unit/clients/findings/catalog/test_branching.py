"""`branching` compares trees with independent samples of equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from forkpoint_clients.findings.catalog import (
    branching,
)
from forkpoint_clients.findings.catalog.branching import PLACEBO, TREE
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import parse_policy
from tests.unit.clients.findings.synthetic import QUESTIONS, choices, trees


def test_the_trees_are_the_librarys_without_samples_among_their_answers() -> None:
    branch, placebo = (parse_policy(dict(policy)) for policy in branching.POLICIES.values())
    (rule,) = LIBRARY["branch-at-forks"].policy.rules
    assert branch.rules[0].when == rule.when
    assert branch.rules[0].do.branch is not None
    assert rule.do.branch is not None
    assert branch.rules[0].do.branch.model_dump() == {**rule.do.branch.model_dump(), "fill": "none"}
    assert placebo.rules == placebo_of(branch).rules


def test_branching_finds_what_is_planted() -> None:
    random = np.random.default_rng(0)
    alone = {(f"q{n}", k): choices([bool(random.random() < 0.2)], 100) for n in range(QUESTIONS) for k in range(4)}
    better = branching.conclude(alone, {TREE: trees(0.7, 200, 1), PLACEBO: trees(0.1, 200, 2)}, 4, "text")
    assert better.verdict.word == "reproduced"
    worse = branching.conclude(alone, {TREE: trees(0.02, 400, 3), PLACEBO: trees(0.5, 400, 4)}, 4, "text")
    assert worse.verdict.word == "not reproduced"
    same = branching.conclude(alone, {TREE: trees(0.2, 400, 5), PLACEBO: trees(0.2, 400, 6)}, 4, "text")
    assert same.verdict.word == "undecided"
    assert same.claims[0].parts[0].estimate.value == pytest.approx(0, abs=0.12)


def test_independent_samples_are_counted_as_many_as_cost_the_same() -> None:
    """A tree that costs two samples is compared with two: of (1, 0, 0, 0), two hold the right one in half of cases."""
    alone = {(f"q{n}", k): choices([k == 0], 100) for n in range(4) for k in range(4)}
    tree = {(f"q{n}", 0): choices([True, False], 200) for n in range(4)}
    found = branching.conclude(alone, {TREE: tree, PLACEBO: tree}, 4, "text")
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.5)
    half = {(f"q{n}", 0): choices([True, False], 250) for n in range(4)}
    found = branching.conclude(alone, {TREE: half, PLACEBO: half}, 4, "text")
    assert found.claims[0].parts[0].estimate.value == pytest.approx(1 - 0.625)


def test_an_answer_without_a_score_is_not_a_wrong_one() -> None:
    alone = {(f"q{n}", k): choices([True], 100) for n in range(20) for k in range(4)}
    tree = {(f"q{n}", 0): choices([True, True], 200) for n in range(20)}
    thrown = {key: replace(one, scores=(1.0, None)) if key[0] == "q3" else one for key, one in tree.items()}
    found = branching.conclude(alone, {TREE: thrown, PLACEBO: tree}, 4, "text")
    assert [one.estimate.value for one in found.claims[0].parts] == [0.0, 0.0]
    alone["q4", 0] = replace(alone["q4", 0], scores=(None,))
    found = branching.conclude(alone, {TREE: tree, PLACEBO: tree}, 4, "text")
    assert found.claims[0].parts[0].questions == 19


def test_intervals_allow_for_costs_that_are_estimated() -> None:
    """With trees of very different cost on a steep curve, most uncertainty is in the number of samples."""
    alone = {(f"q{n}", k): choices([k == n % 4], 100) for n in range(20) for k in range(4)}
    same = {(f"q{n}", 0): choices([n % 2 == 0], 250) for n in range(20)}
    unlike = {(f"q{n}", 0): choices([n % 2 == 0], 490 if n < 10 else 10) for n in range(20)}
    found = [
        branching.conclude(alone, {TREE: one, PLACEBO: one}, 4, "text").claims[0].parts[0].estimate
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
