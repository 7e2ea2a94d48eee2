"""Requests whose own fields conflict with their grammar: vLLM ends them with an error that names neither (500)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Set
from contextlib import aclosing

from forkpoint_server.vllm_seam import RequestOutput, SamplingParams, VLLMValidationError

NO_TOKEN = (
    "leaves no token with which the text could continue as structured_outputs demand; "
    "leave one of the two out, or allow more tokens"
)
FORCED_END = (
    "wrote the end of the reasoning where structured_outputs allow none: the request says that the model does not "
    "reason, and its prompt begins a reasoning; leave one of the two out, or end the reasoning in the prompt"
)


def name_conflicts(
    outputs: AsyncGenerator[RequestOutput, None], params: SamplingParams, silent: Set[int]
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's outputs; its error becomes a VLLMValidationError (400) if its own fields can be the cause.

    Whether a token is left at each position is known only once the text before it is written. A grammar has no stop
    token before its end; `silent` tokens write no text, so that no grammar needs them. A thinking budget counts from
    the prompt's last start of a reasoning, also where the reasoning parser, and with it the grammar, reads from
    `chat_template_kwargs` that there is none.
    """
    if params.structured_outputs is None:
        return outputs
    causes = [(name, NO_TOKEN) for name in ("allowed_token_ids", "bad_words") if getattr(params, name)]
    if not silent >= {*(params.stop_token_ids or ())}:
        causes.append(("stop_token_ids", NO_TOKEN))
    if params.thinking_token_budget is not None:
        causes.append(("thinking_token_budget", FORCED_END))
    return _named(outputs, *causes[0]) if causes else outputs


async def _named(
    outputs: AsyncGenerator[RequestOutput, None], field: str, cause: str
) -> AsyncGenerator[RequestOutput, None]:
    async with aclosing(outputs):
        async for output in outputs:
            if any(choice.finish_reason == "error" for choice in output.outputs):
                raise VLLMValidationError(f"{field}: {cause}", parameter=field)
            yield output
