"""Reads the hidden states of a stored answer: the model is forced to write it again, and the worker keeps the states.

Nothing is kept while an answer is first written, so that requests cost nothing more. The states are those of the model
without vectors: what a policy steered is not steered again.
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast

from forkpoint_policies.spec import InputError
from forkpoint_server.engine.engine import InterveningEngine
from forkpoint_server.engine.hidden_states import take_states
from forkpoint_server.engine.payload import initial_state, payload_of
from forkpoint_server.errors import ApiError
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.replicas.questions import StoredTokens
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import (
    EngineClient,
    LoRARequest,
    RequestOutputKind,
    SamplingParams,
    random_uuid,
    tokens_input,
)

from .request import StatesRequest, in_the_body
from .stored import find_tokens

DROPPED = "the states were dropped: too many are read at once; send the request again"


async def read_states(
    service: Service, engine: InterveningEngine, request: StatesRequest, adapters: dict[str, LoRARequest]
) -> bytes:
    """A safetensors file with `positions` and `rules` [n], and the states of each layer [n, D].

    Raises InputError for a wrong condition or layer, ApiError for an answer that is not stored (404), and where the
    states were lost (503).
    """
    if service.model.states_unreadable:
        raise InputError("request_id", f"its states cannot be read: {service.model.states_unreadable}")
    request.check_layers(service.model.hidden_layers)
    answer = await find_tokens(service, request.request_id, request.choice)
    try:
        context = await service.open_context(LabeledPolicy(request.policy), RequestOptions(), model_name=answer.model)
    except InputError as error:
        raise in_the_body(error) from None
    assert context is not None
    async with engine.background_budget().slot():
        return await _write(engine, context, answer, request, adapters.get(answer.model))


async def _write(
    engine: InterveningEngine,
    context: RequestContext,
    answer: StoredTokens,
    request: StatesRequest,
    adapter: LoRARequest | None,
) -> bytes:
    tokens, receiver = answer.tokens, context.receiver
    written = receiver.open(0, 0, context.fork_threshold, 0)
    start = initial_state(context, answer.prompt)
    payload = payload_of(
        context, written, start, 0,
        forced_tokens=tokens, max_states=request.max_states, kept_states=request.names,
    )  # fmt: skip
    params = SamplingParams(
        temperature=0.0, max_tokens=len(tokens), ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )
    # workers answer for the first data-parallel rank only
    rank: dict[str, Any] = dict.fromkeys(engine.rank_options(), 0)
    try:
        outputs = engine.generate_background(
            tokens_input(answer.prompt), params, f"states-{random_uuid()}", payload, lora_request=adapter, **rank
        )
        found: list[int] = []
        async with aclosing(outputs):
            async for output in outputs:
                for choice in output.outputs:
                    found.extend(choice.token_ids)
        if found != tokens:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "the model runner did not write the answer again")
    finally:
        receiver.close([written])
        states = await take_states(cast(EngineClient, engine), written.handle)
    if not states:
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, DROPPED)
    return states
