"""Several choices of one request, each an engine request of its own: a policy needs a seed and a trace for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from forkpoint_server.vllm_seam import RequestOutput


async def merge_choices(
    request_id: str, choices: Sequence[AsyncGenerator[RequestOutput, None]], final_only: bool
) -> AsyncGenerator[RequestOutput, None]:
    """Run the choices side by side and yield their outputs as vLLM does: as they come, or all together at the end."""
    events: asyncio.Queue[tuple[int, RequestOutput | BaseException | None]] = asyncio.Queue()

    async def run(index: int, outputs: AsyncGenerator[RequestOutput, None]) -> None:
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    events.put_nowait((index, output))
            events.put_nowait((index, None))
        except Exception as error:  # noqa: BLE001  # raised again where the choices are merged
            events.put_nowait((index, error))

    tasks = [asyncio.create_task(run(index, outputs)) for index, outputs in enumerate(choices)]
    finals: dict[int, RequestOutput] = {}
    num_running = len(tasks)
    try:
        while num_running:
            index, event = await events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                num_running -= 1
                continue
            event.request_id = request_id
            for choice in event.outputs:
                choice.index = index
            if event.finished:
                finals[index] = event
            if not final_only:
                event.finished = len(finals) == len(choices)
                yield event
        if final_only:
            whole = finals[0]
            whole.outputs = [choice for index in sorted(finals) for choice in finals[index].outputs]
            yield whole
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
