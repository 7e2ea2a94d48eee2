"""What a request takes with it to the worker."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.engine import payload
from forkpoint_server.engine.payload import choice_params, reserve_programs
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.traces.replaced_tokens import ReplacedTokens
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import SamplingParams, VLLMValidationError
from tests.unit.policies.vocabularies import TARGET
from tests.unit.server.requests.recorded import context_of


def test_the_choices_of_all_prompts_carry_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of({"suppress": {"words": ["wait"]}})
    monkeypatch.setattr(payload, "MAX_PROGRAM_BYTES", 10 * len(context.compiled.packed))
    reserve_programs(context, 6)
    reserve_programs(context, 4)
    with pytest.raises(VLLMValidationError, match="request fewer choices") as refused:
        reserve_programs(context, 1)
    assert refused.value.parameter == "n"


REPLACES = {"force": {"text": " Wait", "instead_of": {"words": ["wait"]}}}


@pytest.mark.parametrize(
    ("fields", "options", "summed"),
    [
        ({}, {}, True),
        ({}, {"ignore_eos": True}, True),
        ({"stores_traces": True}, {}, False),
        ({"options": RequestOptions(forks=True)}, {}, False),
        ({"options": RequestOptions(policy_logprobs=True)}, {}, False),
        ({}, {"stop": ["so"]}, False),
    ],
)
def test_records_that_nobody_reads_are_summed(fields: dict[str, Any], options: dict[str, Any], summed: bool) -> None:
    context = context_of(
        {"temperature": 0.5}, **{"stores_traces": False, "receiver": SimpleNamespace(address="ipc:///a"), **fields}
    )
    trace, start = Trace(1, 0), ChildStart([], 0, 0, 0, 0)
    params = choice_params(SamplingParams(**options), context, trace, 0, start)
    found = PolicyPayload.of(params.extra_args)
    assert found is not None
    assert found.sums_above == (context.fork_threshold if summed else None)
    assert trace.is_summed == summed


def test_records_of_rules_that_the_tokens_confirm_are_read() -> None:
    """In shadow the server alone knows whether one was sampled that the rule would replace."""
    policy = parse_policy({"shadow": True, "rules": [{"do": REPLACES}]})
    context = replace(
        context_of(stores_traces=False, receiver=SimpleNamespace(address="")), compiled=compile_policy(policy, TARGET)
    )
    trace = Trace(1, 0, replaced=ReplacedTokens.of(context.compiled.program, 0))
    assert trace.replaced is not None
    choice_params(SamplingParams(), context, trace, 0, ChildStart([], 0, 0, 0, 0))
    assert not trace.is_summed
