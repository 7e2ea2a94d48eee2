"""The words that a policy bans wherever a grammar governs the text, and where they stand."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import parse_policy
from forkpoint_server.structured_outputs.banned_words import BannedWords, words_banned_in


def rule(when: dict[str, Any], **do: Any) -> dict[str, Any]:
    return {"when": when, "do": do}


BANS = rule({}, suppress={"words": ["wait"]})


@pytest.mark.parametrize(
    ("one", "banned"),
    [
        (BANS, ("wait",)),
        (rule({"region": "answer"}, suppress={"words": ["wait"]}), ("wait",)),
        (rule({"region": "reasoning"}, suppress={"words": ["wait"]}), ()),
        (rule({}, suppress={"connectors": ["uncertainty"], "words": ["so"]}), None),
        (rule({}, suppress={"words": ["wait"], "bias": -3.0}), ()),
        (rule({"entropy_above": 0.5}, suppress={"words": ["wait"]}), ()),
        (rule({"at_most": 3}, suppress={"words": ["wait"]}), ()),
        (rule({}, amplify={"words": ["wait"], "bias": 1.0}), ()),
        (rule({}, control={"like": BANS, "match": "probability"}), ()),
        (rule({}, suppress={"token_ids": [4]}), ()),
    ],
)
def test_the_words_that_are_banned_at_every_position(one: dict[str, Any], banned: tuple[str, ...] | None) -> None:
    found = words_banned_in(parse_policy({"name": "it", "rules": [one]}), ("any", "answer")).words
    assert found == banned if banned is not None else {"so", "maybe", "perhaps"} <= set(found)


def test_a_policy_in_shadow_bans_nothing() -> None:
    assert not words_banned_in(parse_policy({"name": "it", "shadow": True, "rules": [BANS]}), ("any",))


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("Wait", True), ("say WAIT!", True), ("waiting", False), ("await", False), ("wait_", False), ('"wait"', True),
        ("let it", False), ("let's go", True), ("等等", True), ("x等等x", True), ("waits, wait", True), ("", False),
    ],
)  # fmt: skip
def test_words_stand_whole_and_in_any_case(text: str, stands: bool) -> None:
    assert BannedWords((" wait ", "let's", "等等")).stand_in(text) is stands


@pytest.mark.parametrize(
    ("open_start", "open_end", "stands"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_at_an_open_end_a_word_may_go_on(open_start: bool, open_end: bool, stands: bool) -> None:
    assert BannedWords(("wait",)).stand_in("wait", open_start, open_end) is stands
    assert BannedWords(("wait",)).stand_in("(wait)", open_start, open_end)


def test_cased_words_are_banned_as_they_are_written() -> None:
    bans = {"do": {"suppress": {"words": ["Wait"], "connectors": ["conclusion"], "match": "cased"}}}
    found = words_banned_in(parse_policy({"rules": [bans]}), ("any",))
    assert found.cased == ("Wait",)
    assert "so" in found.words
    assert found.stand_in("now Wait, then")
    assert not found.stand_in("now wait, then")
    assert found.occur_in("Waiting")
    assert not found.occur_in("waiting")
    assert found.end_in("x Wait", after=5)
    assert not found.end_in("x wait", after=5)
    assert found.starting_with("Wa") == ["Wait"]
    assert found.starting_with("wa") == []
    only = {"do": {"suppress": {"words": ["Wait"], "match": "token"}}}
    assert not words_banned_in(parse_policy({"rules": [only]}), ("any",)), "other tokens may write it"
