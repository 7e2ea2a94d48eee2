"""Whether a server's workers can read hidden states, and what a policy that needs them hears otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.engine.hidden_states import first_problem
from tests.unit.policies.vocabularies import TARGET


def test_one_worker_that_cannot_is_enough() -> None:
    assert first_problem(["", ""]) == ""
    assert first_problem(["", "has none", "has two"]) == "has none"


def test_a_policy_that_needs_them_is_rejected_where_they_cannot_be_read() -> None:
    blind = replace(TARGET, states_unreadable="the server was started with --worker-extension-cls own.Extension")
    policy = parse_policy({"rules": [{"when": {"effective_rank_velocity_below": 0}, "do": {"observe": {}}}]})
    compile_policy(policy, TARGET)
    with pytest.raises(InputError, match=r"needs hidden states: .* own\.Extension") as caught:
        compile_policy(policy, blind)
    assert caught.value.field == "policy.rules[0].when.effective_rank_velocity_below"
