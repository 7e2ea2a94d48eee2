"""In shadow, rules that replace tokens fired where such a token was sampled."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.worker.records import RULES_SHIFT
from forkpoint_server.traces.replaced_tokens import ReplacedTokens
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.factories import Json, compiled, policy, rule
from tests.unit.policies.vocabularies import END_THINK, tokens
from tests.unit.server.traces.test_trace import row

FORCE = rule(force={"text": "so", "instead_of": {"words": ["wait"]}})
END = rule(force={"text": "so", "instead_of": "end_of_reasoning"})
CALM = rule(temperature=0.5)


def shadow(*rules: Json) -> Program:
    return compiled({**policy(*rules), "shadow": True})


def profile_of(program: Program, generated: list[int], fired: list[int]) -> list[list[bool]]:
    """What a trace says, from records in which these bits are set."""
    trace = Trace(handle=7, choice=0, tokens=[])
    trace.replaced = ReplacedTokens.of(program, FREE)
    rules = len(program.rules)
    for position, bits in enumerate(fired):
        trace.add(*row(position, 0.1, bits << RULES_SHIFT, rules=rules))
        trace.tokens = generated[: position + 1]
        trace.profile()  # as the tokens arrive
    found: list[list[bool]] = trace.profile().fired.tolist()
    assert trace.records_since((0, 0))[0].fired.tolist() == found
    return found


def test_a_rule_fires_where_its_conditions_held_and_a_token_of_its_own_was_sampled() -> None:
    text = [*tokens("wait|k|w"), END_THINK, *tokens("so| wait")]
    assert profile_of(shadow(FORCE), text, [1, 1, 1, 1, 0, 1]) == [[True], [False], [False], [False], [False], [True]]
    assert profile_of(shadow(END), text, [1] * 6) == [[False]] * 3 + [[True]] + [[False]] * 2


def test_other_rules_fire_as_their_records_say() -> None:
    program = shadow(END, CALM)
    end = next(index for index, one in enumerate(program.rules) if one.instead)
    found = np.array(profile_of(program, [*tokens("wait"), END_THINK], [3, 3]))
    assert found[:, 1 - end].tolist() == [True, True]
    assert found[:, end].tolist() == [False, True]


@pytest.mark.parametrize("program", [shadow(CALM), compiled(policy(END))])
def test_a_program_without_such_rules_costs_nothing(program: Program) -> None:
    assert ReplacedTokens.of(program, FREE) is None
