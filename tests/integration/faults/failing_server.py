"""`forkpoint` with a vLLM engine in which requests raise, as their ids say; all else is vLLM's.

An id that ends in `-fails-branches`: every second branch, after a few tokens. `-fails-trunk`: its first answer, later.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM

from forkpoint_policies.cli import main

BRANCH_OUTPUTS, TRUNK_OUTPUTS = 5, 150
generate = AsyncLLM.generate
branches = itertools.count()


def outputs_until_failure(name: str) -> int | None:
    """How many outputs the request of this name in the engine gives before it fails; None if it does not."""
    is_branch = name.partition("_")[0].isdigit()
    if name.endswith("-fails-branches") and is_branch and next(branches) % 2:
        return BRANCH_OUTPUTS
    return TRUNK_OUTPUTS if name.endswith("-fails-trunk") and not is_branch else None


async def failing(
    self: AsyncLLM, prompt: Any, params: Any, request_id: str, **options: Any
) -> AsyncGenerator[RequestOutput, None]:
    fails_after = outputs_until_failure(request_id)
    async with aclosing(generate(self, prompt, params, request_id, **options)) as outputs:
        number = 0
        async for output in outputs:
            number += 1
            if fails_after is not None and (number > fails_after or output.finished):
                raise RuntimeError("made to fail")
            yield output


if __name__ == "__main__":
    AsyncLLM.generate = failing  # type: ignore[assignment,method-assign]
    sys.exit(main())
