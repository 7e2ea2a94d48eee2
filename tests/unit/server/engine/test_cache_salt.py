"""The salt of the prefix cache: who may find what was computed under a policy that steers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Program
from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.engine.cache_salt import salted_prompt, salted_tree_prompt, tree_salt
from tests.unit.policies.compile.test_steering import RULE, SERVED

START = ChildStart([], 0, word_state=0, region=0, counted=0)
TOKENS = [1, 2, 3]
PROMPT: dict[str, Any] = {"prompt_token_ids": TOKENS}


def program(*rules: dict[str, Any], **options: Any) -> Program:
    return compile_policy(parse_policy({"rules": list(rules), **options}), SERVED).program


def salt(prompt: dict[str, Any] = PROMPT, rules: Any = (RULE,), key: str = "key", **start: Any) -> Any:
    tokens = prompt["prompt_token_ids"]
    return salted_prompt(prompt, program(*rules), key, replace(START, **start), tokens)["cache_salt"]


def test_requests_that_decide_alike_share_what_they_compute() -> None:
    assert salt() == salt()
    assert PROMPT == {"prompt_token_ids": TOKENS}


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": {"prompt_token_ids": [*TOKENS, 4]}}, {"prompt": {**PROMPT, "cache_salt": "mine"}}, {"key": "other"},
        {"word_state": 1}, {"region": 1},
    ],
    ids=["a longer prompt", "the client's salt", "another program", "inside a word", "in the answer"],
)  # fmt: skip
def test_others_do_not(other: dict[str, Any]) -> None:
    assert salt(**other) != salt()


@pytest.mark.parametrize(
    "rule",
    [
        {**RULE, "when": {"probability": 0.5}},
        {"do": {"control": {"like": RULE, "match": "positions"}}},
    ],
)
def test_where_chance_decides_nobody_does(rule: dict[str, Any]) -> None:
    assert salt(rules=(rule,)) != salt(rules=(rule,))


@pytest.mark.parametrize("steers", [program({"do": {"observe": {}}}), program(RULE, shadow=True)])
def test_a_request_that_is_not_steered_has_none(steers: Program) -> None:
    assert salted_prompt(PROMPT, steers, "key", START, TOKENS) is PROMPT


def test_requests_of_one_tree_and_group_share_and_nobody_else() -> None:
    own = tree_salt(program(RULE))
    assert own != tree_salt(program(RULE))
    found = {
        salted_tree_prompt(prompt, salt, group)["cache_salt"]
        for prompt in (PROMPT, {**PROMPT, "cache_salt": "mine"})
        for salt in (own, tree_salt(program(RULE)))
        for group in (0, 1)
    }
    assert len(found) == 8
    longer = salted_tree_prompt({"prompt_token_ids": [*TOKENS, 4]}, own, 1)
    assert longer["cache_salt"] == salted_tree_prompt(PROMPT, own, 1)["cache_salt"]
    assert salted_tree_prompt(PROMPT, tree_salt(program(RULE, shadow=True)), 0) is PROMPT
