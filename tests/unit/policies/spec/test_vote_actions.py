"""Branches, samples and continuations: what they accept, and the errors of what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import parse_policy
from tests.unit.policies.factories import Json

from .wrong_input import Wrong, check_rejected, do

BRANCH, SAMPLE, RESUME = (f"policy.rules[0].do.{name}" for name in ("branch", "sample", "resume"))


def sample(**fields: Any) -> Json:
    return do(sample=fields)


def branch(**fields: Any) -> Json:
    return do(branch=fields)


def majority(**fields: Any) -> Json:
    return sample(select="majority", **fields)


WRONG: Wrong = {
    "more first answers than answers": (
        majority(answers=3, first=4), f"{SAMPLE}.first", "4, more than the 3 `answers` .*at most 3",
    ),
    "more than the answers by default": (majority(first=33), f"{SAMPLE}.first", "at most 32"),
    "a window beyond the answers": (majority(answers=4, unanimous=5), f"{SAMPLE}.unanimous", "at most 4"),
    "no first answer": (majority(first=0), f"{SAMPLE}.first", "at least 1|greater than or equal to 1"),
    "a threshold without confidence": (majority(warm_up=4), SAMPLE, "warm_up says nothing .*'majority'"),
    "the first by confidence": (sample(first=1), SAMPLE, "first says nothing with select 'confidence'"),
    "a power without ranks": (majority(power=1.0), SAMPLE, "it is for self-certainty"),
    "two rules for stopping": (majority(first=1, posterior_at=0.9), SAMPLE, "posterior_at and first both say"),
    "a share and a window": (majority(unanimous=2, decided_at=0.9), SAMPLE, "unanimous and decided_at both"),
    "ranks that are decided": (
        sample(select="self-certainty", decided_at=0.9), SAMPLE, "all answers are ranked",
    ),
    "a posterior of nothing": (majority(posterior="dirichlet"), SAMPLE, "without posterior_at"),
    "an order of nothing": (majority(first_by="text"), SAMPLE, "without first"),
    "a few at a time of all": (majority(at_a_time=2), SAMPLE, "without posterior_at"),
    "more first answers than the tree has": (
        branch(max_branches=2, select="first", first=3), f"{BRANCH}.first", "at most 2",
    ),
    "the first of a majority": (branch(select="majority", first=2), BRANCH, "first says nothing .*'majority'"),
    "an extractor for all": (branch(extract="text"), BRANCH, "extract says nothing .*'all'"),
    "a share of the first": (branch(select="first", decided_at=0.5), BRANCH, "decided_at says nothing"),
    "some tokens without a bound": (branch(top_entropy_of=5), BRANCH, "without top_entropy_above"),
    "one token": (branch(top_entropy_above=1.0, top_entropy_of=1), f"{BRANCH}.top_entropy_of", "2"),
    "two ways to go on": (do(resume={"budget_tokens": 9, "tokens": 9}), RESUME, "budget_tokens and tokens both"),
    "times without tokens": (do(resume={"times": 2}), RESUME, "times says nothing without tokens"),
    "a last text without tokens": (do(resume={"final": {"text": "So"}}), RESUME, "final says nothing without tokens"),
    "an empty last text": (do(resume={"tokens": 1, "final": {"text": ""}}), f"{RESUME}.final.text", "at least 1"),
    "an unknown vote": (sample(select="median"), f"{SAMPLE}.select", "confidence"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    check_rejected(data, field, right)


@pytest.mark.parametrize(
    ("action", "share"),
    [({}, 0.95), ({"decided_at": None}, None), ({"select": "majority"}, None),
     ({"select": "majority", "decided_at": 0.8}, 0.8)],
)  # fmt: skip
def test_only_confidence_has_a_deciding_share_by_default(action: dict[str, Any], share: float | None) -> None:
    read = parse_policy(sample(**action)).rules[0].do.sample
    assert read is not None
    assert read.deciding_share == share
