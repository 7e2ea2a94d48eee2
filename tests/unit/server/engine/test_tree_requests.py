"""The engine requests of a tree."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from forkpoint_policies.worker.payload import RESERVED_KEY
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.engine.request import ChildRequests, EngineRequest
from forkpoint_server.engine.tree_requests import TreeRequests
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.vllm_seam import RequestOutput, SamplingParams
from tests.unit.server.requests.recorded import context_of


@pytest.mark.parametrize("first", [True, False])
async def test_only_the_first_request_fetches_what_another_engine_computed(first: bool) -> None:
    sent: dict[str, SamplingParams] = {}

    async def generate(
        prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        sent[request_id] = params
        for output in list[RequestOutput]():
            yield output

    context = context_of({"branch": {}}, receiver=Receiver())
    params = SamplingParams(max_tokens=9, extra_args={"kv_transfer_params": {"remote": 1}, "x": 2})
    request = EngineRequest({"prompt_token_ids": [1, 2]}, params, "it", {}, context)
    requests = TreeRequests(request, False, ChildRequests(), None, generate, generate)
    trace = context.receiver.open(0, 0, 0.0, 0)
    async for _ in requests.start(trace, ChildStart([], 5, 0, 1, 1, first=first)):
        pass
    await context.receiver.stop()
    ((name, own),) = sent.items()
    assert (name == "it") == first
    expected = {"x", RESERVED_KEY, *(["kv_transfer_params"] if first else [])}
    assert set(own.extra_args or {}) == expected
