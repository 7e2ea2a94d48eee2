"""Policies that run a layer again: what they compile to, and what the served model cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, ControlKind
from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies.hidden.artefact_files import VECTOR
from tests.unit.policies.vocabularies import TARGET

SERVED = replace(TARGET, artefacts={"calm": VECTOR}, hidden_layers=(2, 10), recycle_layers=(3, 23))
AT_FORKS: dict[str, Any] = {"when": {"entropy_above": 1.0}, "do": {"recycle": {"layer": 23, "tokens": 2}}}
HERE: dict[str, Any] = {"when": {"every": 5}, "do": {"recycle": {"layer": 3, "from": "here"}}}


def compiled(*rules: dict[str, Any], **served: Any) -> Any:
    return compile_policy(parse_policy({"rules": list(rules)}), replace(SERVED, **served))


def test_its_rules() -> None:
    here, forks = compiled(AT_FORKS, HERE).program.rules
    assert (forks.action, forks.layer, forks.num_tokens, forks.from_here) == (Action.RECYCLE, 23, 2, False)
    assert (here.number, here.layer, here.from_here, here.first_position) == (1, 3, True, 1)


def test_a_position_that_is_computed_again() -> None:
    again = {"when": {"entropy_above": 1.0}, "do": {"recycle": {"layer": 3, "from": "again"}}}
    first, _ = compiled({"do": {"temperature": 0.5}}, again).program.rules
    assert (first.action, first.number, first.layer, first.from_here) == (Action.RECYCLE_AGAIN, 1, 3, False)
    assert first.first_position == 0
    with pytest.raises(InputError, match=r"rules \[0\] let the model compute a position again, and rules \[1\] change"):
        compiled(again, HERE)


def test_drafts_and_a_position_that_is_computed_again() -> None:
    again = {"do": {"recycle": {"layer": 3, "from": "again"}}}
    with pytest.raises(InputError, match="`again` cannot be had on this server, which was started with --speculative"):
        compiled(again, speculates=True)
    assert compiled(HERE, speculates=True).program.rules


def test_its_placebo_acts_at_other_positions() -> None:
    policy = parse_policy({"name": "again", "rules": [AT_FORKS]})
    assert matches_of(policy) == ("positions",)
    (rule,) = compile_policy(placebo_of(policy), SERVED).program.rules
    assert (rule.action, rule.layer, rule.control) == (Action.RECYCLE, 23, ControlKind.POSITIONS)
    with pytest.raises(InputError, match="does the same at every position, so it has no placebo"):
        placebo_of(parse_policy({"name": "again", "rules": [HERE]}))


@pytest.mark.parametrize(
    ("served", "field", "text"),
    [
        ({"recycle_layers": ()}, "", "needs a server that was started with --recycle-layers, 23 among them"),
        (
            {"recycle_layers": (3, 5)}, ".layer",
            "layer 23 cannot be run again: this server was started with --recycle-layers 3,5",
        ),
    ],
)  # fmt: skip
def test_what_the_server_cannot_do(served: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        compiled(AT_FORKS, **served)
    assert error.value.field == f"policy.rules[0].do.recycle{field}"
    assert text in str(error.value)


@pytest.mark.parametrize("tree", [{"branch": {"max_branches": 2}}, {"sample": {"answers": 2}}])
def test_a_policy_that_branches_can(tree: dict[str, Any]) -> None:
    program = compiled({"do": tree}, AT_FORKS).program
    assert [rule.action for rule in program.rules] == [Action.TREE, Action.RECYCLE]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"do": {"recycle": {"tokens": 2}}}, "recycle.layer: is missing"),
        ({"do": {"recycle": {"layer": -1}}}, "recycle.layer"),
        ({"do": {"recycle": {"layer": 1.5}}}, "recycle.layer"),
        ({"do": {"recycle": {"layer": 3, "tokens": 0}}}, "recycle.tokens"),
        ({"do": {"recycle": {"layer": 3, "from": "before"}}}, "recycle.from: Input should be 'next', 'here' or"),
        (
            {"when": {"confidence_below": 5.0}, "do": {"recycle": {"layer": 3, "from": "again"}}},
            "when.confidence_below is not known where a recycle with `from` `again` decides",
        ),
        ({"do": {"recycle": {"layer": 3, "from": "again", "tokens": 2}}}, "with `again` one token is drawn; leave it"),
        (
            {"when": {"entropy_above": 1.0}, "do": {"recycle": {"layer": 3, "from": "here"}}},
            "when.entropy_above is known only after the forward pass that a recycle with `from` `here` changes",
        ),
    ],
)  # fmt: skip
def test_what_no_server_can_do(rule: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        parse_policy({"rules": [rule]})
