"""Which tokens an answer must not start with under a policy that bans words."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.compile.regions import Region
from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.banned_starts import BannedStarts
from tests.unit.policies.vocabularies import END_THINK, TARGET, token, tokens


def starts(when: dict[str, Any] | None = None, region: Region = Region.REASONING, **do: Any) -> BannedStarts:
    policy = parse_policy({"name": "it", "rules": [{"when": when or {}, "do": do}]})
    return BannedStarts(policy, TARGET, region)


@pytest.mark.parametrize(
    ("before", "candidate", "ruled_out"),
    [
        ("so", " Wait", True), ("so| ", "Wait", True), ("so| |wa", "it", True), ("so", " waiting", False),
        ("so", " wai", True), ("so| ", "wa", True), ("so", " w", True), ("so| ", "so", False),
        ("so|Wait", "so", False), ("k", "now", False), ("in| ", "dou", False), ("double|-", "check", False),
    ],
)  # fmt: skip
def test_a_start_that_completes_or_can_only_complete_a_banned_word(
    before: str, candidate: str, ruled_out: bool
) -> None:
    """Of the vocabulary's words only "wait" and "waiting" begin with "w"; many words begin with "s"."""
    banned = starts(
        suppress={"words": ["wait", "waiting", "wait3", "wait_"]} if candidate != " waiting" else {"words": ["wait"]}
    )
    assert banned.rule_out(tokens(before), token(candidate)) is ruled_out


def test_a_beginning_that_other_words_share_is_free() -> None:
    """Of the words with "wa" one is not banned: "waiting"."""
    assert not starts(suppress={"words": ["wait"]}).rule_out(tokens("so| "), token("wa"))


def test_phrases() -> None:
    banned = starts(suppress={"words": ["in conclusion"]})
    assert banned.rule_out(tokens("so| |in| con"), token("clusion"))
    assert not banned.rule_out(tokens("so| "), token("in"))


def test_only_the_bans_of_the_region() -> None:
    banned = starts({"region": "reasoning"}, suppress={"words": ["wait"]})
    assert banned.rule_out(tokens("so"), token(" Wait"))
    assert not banned.rule_out([*tokens("so"), END_THINK], token(" Wait"))
    assert not starts({"region": "reasoning"}, Region.ANSWER, suppress={"words": ["wait"]}).rule_out([], token(" Wait"))


@pytest.mark.parametrize("do", [{"suppress": {"words": ["wait"], "bias": -1.0}}, {"observe": {}}])
def test_without_a_ban_nothing_is_ruled_out(do: dict[str, Any]) -> None:
    assert not starts(**do).rule_out([], token("Wait"))
