"""A load of chat requests over HTTP, and how fast they were answered.

The client uses bare sockets, and parses only once everything has arrived: it shares the cores with the servers, and
what it costs itself would dilute the difference between them.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
CHOICE = b'"choices":[{'  # in each chunk that brings tokens; not in those with the usage or the `forkpoint` object


@dataclass(frozen=True)
class Speed:
    """One load: seconds until all was answered, output tokens, median seconds between a stream's tokens."""

    seconds: float
    tokens: int
    between_tokens: float | None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class _Answer:
    tokens: int
    between_tokens: float | None


def measure(url: str, bodies: Sequence[Json], concurrency: int) -> Speed:
    """Send all of these chats, so many at a time."""
    return asyncio.run(_measure(url, bodies, concurrency))


async def _measure(url: str, bodies: Sequence[Json], concurrency: int) -> Speed:
    waiting = iter(bodies)
    answers: list[_Answer] = []

    async def client() -> None:
        for body in waiting:
            answers.append(await _send(url, body))  # noqa: PERF401  # the clients share one list and one iterator

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
    seconds = time.perf_counter() - started
    gaps = [answer.between_tokens for answer in answers if answer.between_tokens is not None]
    return Speed(seconds, sum(answer.tokens for answer in answers), statistics.median(gaps) if gaps else None)


async def _send(url: str, body: Json) -> _Answer:
    address = urlsplit(url)
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + content)
    arrived: list[tuple[float, bytes]] = []
    while data := await reader.read(1 << 16):
        arrived.append((time.perf_counter(), data))
    writer.close()
    whole = b"".join(data for _, data in arrived)
    if not whole.startswith(b"HTTP/1.1 200") or not (found := TOKENS.findall(whole)):
        raise RuntimeError(f"{url} answered {whole[:2000]!r}")
    tokens = int(found[-1])
    times = [when for when, data in arrived if CHOICE in data] if body.get("stream") else []
    return _Answer(tokens, (times[-1] - times[0]) / (tokens - 1) if times and tokens > 1 else None)
