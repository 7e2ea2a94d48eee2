"""Reads what answers say. `math` computes: it runs in a thread of its own, so that no other request waits for it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from forkpoint_policies.spec.answer_extractors import COMPUTED, extractor

_THREAD = ThreadPoolExecutor(1, "forkpoint-answers")


async def read_answer(extract: str, text: str) -> str | None:
    """What an extractor finds in the text after the reasoning."""
    read = extractor(extract)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, read, text) if extract in COMPUTED else read(text)
