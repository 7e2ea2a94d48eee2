"""Streams, many at once, for as long as is wanted: each with its times, or with what was wrong with it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from benchmarks.request_load import CHOICE, TOKENS

from .bodies import Kind, LoadRequest

STUCK_SECONDS = 120.0
"""A stream that gives nothing for so long is stuck."""
FINISHED = re.compile(rb'"finish_reason": ?"(\w+)"')
DONE = b"data: [DONE]\n\n"


class Requests(Protocol):
    """The requests of a load, by number."""

    def __getitem__(self, number: int) -> LoadRequest: ...


@dataclass(frozen=True)
class Stream:
    """One answer: seconds from the request to its first part and its end, its tokens, and what was `wrong`."""

    kind: Kind
    began: float
    first_seconds: float = 0.0
    whole_seconds: float = 0.0
    between_seconds: float = 0.0
    tokens: int = 0
    left: bool = False
    wrong: str | None = None


def load(url: str, bodies: Requests, concurrency: int, seconds: float) -> list[Stream]:
    """Keep so many streams running for so long, then let those that run end."""
    return asyncio.run(_load(url, bodies, concurrency, time.monotonic() + seconds))


async def _load(url: str, bodies: Requests, concurrency: int, until: float) -> list[Stream]:
    numbers, streams = itertools.count(), list[Stream]()

    async def client() -> None:
        while time.monotonic() < until:
            streams.append(await _stream(url, bodies[next(numbers)]))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
    return streams


async def _stream(url: str, request: LoadRequest) -> Stream:
    began = time.monotonic()
    try:
        arrived = await _arrived(url, request)
    except TimeoutError:
        return Stream(request.kind, began, wrong=f"nothing came for {STUCK_SECONDS:g} s: {request.body}")
    except OSError as error:
        return Stream(request.kind, began, wrong=f"{type(error).__name__}: {error}: {request.body}")
    whole = b"".join(data for _, data in arrived)
    wrong = _wrong(request, whole)
    if wrong is not None:
        return Stream(request.kind, began, wrong=f"{wrong}: {request.body}: {whole[:300]!r} … {whole[-600:]!r}")
    times = [when for when, data in arrived if CHOICE in data]
    if request.leaves_after is not None or not times:
        return Stream(request.kind, began, left=True)
    tokens = int(TOKENS.findall(whole)[-1])
    between = (times[-1] - times[0]) / max(tokens - 1, 1)
    return Stream(request.kind, began, times[0] - began, arrived[-1][0] - began, between, tokens)


async def _arrived(url: str, request: LoadRequest) -> list[tuple[float, bytes]]:
    """What came, and when. It is looked at later: the client shares its processor with the servers."""
    address, content = urlsplit(url), json.dumps(request.body).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {request.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    arrived: list[tuple[float, bytes]] = []
    try:
        writer.write(head.encode() + content)
        while data := await asyncio.wait_for(reader.read(1 << 16), STUCK_SECONDS):
            arrived.append((time.monotonic(), data))
            if request.leaves_after is not None and len(arrived) > request.leaves_after:
                break
    finally:
        writer.close()
    return arrived


def _wrong(request: LoadRequest, whole: bytes) -> str | None:
    if not whole.startswith(b"HTTP/1.1 200"):
        return "no success"
    if b'"error":' in whole:
        return "an error in the stream"
    if request.leaves_after is not None and DONE not in whole:
        return None  # by its own will
    if DONE not in whole:
        return "the stream has no end"
    if request.kind != "branching" and len(FINISHED.findall(whole)) != request.choices:
        return "not every choice has ended"
    if "policy" in request.body and b'"complete":true' not in whole:
        return "a record is missing"
    if request.kind == "branching" and not FINISHED.search(whole):
        return "no choice has ended"
    return None
