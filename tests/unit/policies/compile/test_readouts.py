"""Readouts that a policy names: which there are, which number each has, and what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Signal
from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies.factories import Json, policy, rule
from tests.unit.policies.hidden.artefact_files import VECTOR, mlp_readout, readout
from tests.unit.policies.kernel.readout_programs import compiled_with
from tests.unit.policies.vocabularies import TARGET

NAMES = [f"readout-{number}" for number in range(5)]
READOUTS: dict[str, Artefact] = {
    "correct": readout(),
    "calm": VECTOR,
    "sure": mlp_readout(),
    **{name: mlp_readout(units=number + 1) for number, name in enumerate(NAMES)},
}


def above(name: str, value: float = 0.5) -> Json:
    return rule({"readout_above": {"name": name, "value": value}}, observe={})


def test_they_are_numbered_as_they_are_named() -> None:
    compiled = compiled_with(
        READOUTS,
        above("sure", -2.0),
        rule({"readout_below": {"name": "correct", "value": 0.25}}, observe={}),
        above("sure"),
    )
    assert compiled.readouts == ("sure", "correct")
    assert compiled.program.readouts == [READOUTS["sure"].digest, READOUTS["correct"].digest]
    first, second, third = compiled.program.rules
    assert (first.low[Signal.READOUT_1], second.high[Signal.READOUT_2], third.low[Signal.READOUT_1]) == (
        -2.0,
        0.25,
        0.5,
    )


def test_the_digest_is_also_that_of_the_readouts() -> None:
    one = compiled_with(READOUTS, above("correct"))
    other = compiled_with({**READOUTS, "correct": readout(bias=1.0)}, above("correct"))
    unrelated = compiled_with({**READOUTS, "sure": readout(bias=1.0)}, above("correct"))
    assert one.policy.digest == other.policy.digest
    assert one.digest == unrelated.digest != other.digest
    assert len(one.digest) == len(one.policy.digest)
    plain = compiled_with(READOUTS, rule(observe={}))
    assert plain.digest == plain.policy.digest


def test_a_placebo_acts_elsewhere_as_often() -> None:
    plain = parse_policy(policy(rule({"readout_above": {"name": "correct", "value": 0.5}}, end_reasoning={})))
    compiled = compile_policy(placebo_of(plain), replace(TARGET, artefacts=READOUTS))
    assert compiled.readouts == ("correct",)


WRONG = {
    "unknown": ([above("corect")], "name", "there is no readout 'corect'; there are correct, "),
    "a vector": ([above("calm")], "name", "'calm' is a vector, which has no value; name a readout"),
    "no probability": ([above("correct", 2.0)], "value", "must be from 0 to 1, not 2: 'correct' is a probability"),
    "five": ([above(name) for name in NAMES], "name", "is one readout too many; a policy names 4"),
}


@pytest.mark.parametrize(("rules", "part", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_compiled(rules: list[Json], part: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        compiled_with(READOUTS, *rules)
    field = f"policy.rules[{len(rules) - 1}].when.readout_above.{part}"
    assert caught.value.field == field
    assert says in str(caught.value)


def test_without_any_it_says_how_to_store_one() -> None:
    with pytest.raises(InputError, match="there is no readout 'correct'; none is stored: store one with PUT"):
        compiled_with({"calm": VECTOR}, above("correct"))


def test_where_states_cannot_be_read() -> None:
    blind = replace(TARGET, artefacts=READOUTS, states_unreadable="it has no such module")
    with pytest.raises(InputError, match="needs hidden states: it has no such module"):
        compile_policy(parse_policy(policy(above("correct"))), blind)
