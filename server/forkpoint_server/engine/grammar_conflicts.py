"""Requests whose own limits leave a grammar without a token: vLLM ends them with an error that names neither (500)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Set
from contextlib import aclosing

from forkpoint_server.vllm_seam import RequestOutput, SamplingParams, VLLMValidationError


def name_conflicts(
    outputs: AsyncGenerator[RequestOutput, None], params: SamplingParams, silent: Set[int]
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's outputs; its error becomes a VLLMValidationError (400) if its own limits can be the cause.

    Whether a token is left at each position is known only once the text before it is written. A grammar has no stop
    token before its end; `silent` tokens write no text, so that no grammar needs them.
    """
    if params.structured_outputs is None:
        return outputs
    limits = [name for name in ("allowed_token_ids", "bad_words") if getattr(params, name)]
    if not silent >= {*(params.stop_token_ids or ())}:
        limits.append("stop_token_ids")
    return _named(outputs, limits[0]) if limits else outputs


async def _named(outputs: AsyncGenerator[RequestOutput, None], limit: str) -> AsyncGenerator[RequestOutput, None]:
    async with aclosing(outputs):
        async for output in outputs:
            if any(choice.finish_reason == "error" for choice in output.outputs):
                raise VLLMValidationError(
                    f"{limit}: leaves no token with which the text could continue as structured_outputs demand; leave "
                    "one of the two out, or allow more tokens",
                    parameter=limit,
                )
            yield output
