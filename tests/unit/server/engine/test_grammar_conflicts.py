"""The error of a request whose own fields conflict with its grammar names the field; other errors stay vLLM's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from forkpoint_server.engine.grammar_conflicts import name_conflicts
from forkpoint_server.vllm_seam import (
    CompletionOutput,
    RequestOutput,
    SamplingParams,
    StructuredOutputsParams,
    VLLMValidationError,
)

SILENT = frozenset({2, 9})
YES = StructuredOutputsParams(choice=["yes", "no"])


async def outputs(*reasons: str | None) -> AsyncGenerator[RequestOutput, None]:
    """A request that writes a token at a time and finishes as the last reason says."""
    for number, reason in enumerate(reasons):
        choice = CompletionOutput(0, "x", [number], None, None, finish_reason=reason)
        yield RequestOutput("it", None, [1], None, [choice], finished=reason is not None)


async def num_passed(params: SamplingParams, *reasons: str | None) -> int:
    """How many outputs of such a request pass."""
    return len([output async for output in name_conflicts(outputs(*reasons), params, SILENT)])


@pytest.mark.parametrize(
    ("field", "value"), [("allowed_token_ids", [5, 6]), ("bad_words", ["yes"]), ("stop_token_ids", [2, 7])]
)
async def test_the_limit_is_named(field: str, value: Any) -> None:
    params = SamplingParams(structured_outputs=YES, **{field: value})
    assert await num_passed(params, None, "stop") == 2
    with pytest.raises(VLLMValidationError, match=f"{field}: leaves no token.*structured_outputs") as raised:
        await num_passed(params, None, None, "error")
    assert raised.value.parameter == field


async def test_a_thinking_budget_that_ends_no_reasoning_is_named() -> None:
    params = SamplingParams(structured_outputs=YES, thinking_token_budget=0)
    assert await num_passed(params, None, "stop") == 2
    with pytest.raises(VLLMValidationError, match="thinking_token_budget: wrote the end of the reasoning") as raised:
        await num_passed(params, "error")
    assert raised.value.parameter == "thinking_token_budget"


@pytest.mark.parametrize("params", [
        SamplingParams(structured_outputs=YES), SamplingParams(allowed_token_ids=[5]),
        SamplingParams(thinking_token_budget=0),
        SamplingParams(structured_outputs=YES, stop_token_ids=[9, 2]),
    ],
)  # fmt: skip
async def test_an_error_without_a_conflict_is_vllms(params: SamplingParams) -> None:
    assert await num_passed(params, None, "error") == 2
