"""What of two answers must be the same: all but names, times, and where a stream was cut into pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from .calls import Call

MADE_UP = re.compile(r"\b(chatcmpl|cmpl|resp|msg|rs|fc|call|chatcmpl-tool|modelperm|tool)[-_][0-9a-zA-Z-]{8,}(-\d+)?")
"""Names that a server makes up for an answer and its parts."""

TIMES = ("created", "created_at", "completed_at", "uptime")
PIECES = ("content", "reasoning", "text", "delta", "arguments", "partial_json", "thinking", "token_ids")
"""The fields that a stream tells of piece by piece; how many tokens a piece has is a matter of time."""
LISTS = ("content", "tokens", "token_logprobs", "top_logprobs", "text_offset")
NUMBERED = ("sequence_number",)
OURS = "forkpoint"
SECONDS = 120


@dataclass(frozen=True)
class Answered:
    """An answer as far as it is compared."""

    status: int
    kind: str
    body: Any


def ask(url: str, call: Call, policy: str | None = None) -> Answered:
    """Ask a server; with a policy in the body, which only Forkpoint knows, its own object is left out of what is compared."""
    body = call.body
    if policy is not None:
        assert isinstance(body, dict)
        body = {**body, "policy": policy}
    content = body if isinstance(body, bytes) else None
    given = {} if content is not None or body is None else {"json": body}
    answer = httpx.request(call.method, url + call.path, content=content, headers=dict(call.headers), timeout=SECONDS, **given)  # type: ignore[arg-type]
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/event-stream":
        told = sorted((_plain(event) for event in _events(answer.text)), key=_choice)  # in their own order, each choice's
        return Answered(answer.status_code, kind, list(_joined(iter(told))))
    if kind == "application/json":
        return Answered(answer.status_code, kind, _plain(answer.json()))
    return Answered(answer.status_code, kind, answer.text)


def _events(text: str) -> Iterator[Any]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if not fields:
            continue
        data = fields.get("data", "")
        told = data if data == "[DONE]" else json.loads(data)
        if isinstance(told, dict) and told.get(OURS) is not None and told.get("choices") == []:
            told = _without_ours(told)
            if told is None:
                continue
        yield {"event": fields.get("event"), "data": told}


def _choice(event: Any) -> float:
    """Of which choice an event tells: which of them comes first at a moment is a matter of time."""
    if not isinstance(event["data"], dict):
        return float("inf")
    choices = event["data"].get("choices")
    if choices is None:
        return 0.0
    return float(choices[0]["index"]) if choices else float("inf")


def _without_ours(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """A chunk without our object; None for one that has nothing else to say."""
    rest = {key: value for key, value in chunk.items() if key != OURS}
    return rest if rest.get("usage") is not None else None


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        if key == "" and isinstance(value.get("data"), list) and value.get("object") == "list":  # models, and their aliases
            value = {**value, "data": [one for one in value["data"] if ":" not in str(one.get("id"))]}
        return {name: _plain(one, name) for name, one in value.items() if name != OURS}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if key in TIMES and isinstance(value, int | float):
        return 0
    if isinstance(value, str):
        return MADE_UP.sub(r"\1", value)
    return value


def _joined(events: Iterator[Any]) -> Iterator[Any]:
    """Events that differ in nothing but the pieces they bring become one; pieces are put together."""
    held: tuple[Any, list[Any]] | None = None
    for event in events:
        pieces: list[Any] = []
        shape = _shape(event, pieces)
        if held is not None and held[0] == shape and pieces:
            held = shape, [old + new for old, new in zip(held[1], pieces, strict=True)]
            continue
        if held is not None:
            yield held
        held = shape, pieces
    if held is not None:
        yield held


def _shape(value: Any, pieces: list[Any], key: str = "") -> Any:
    """A value with its pieces taken out of it, into the list."""
    if key in NUMBERED:
        return None
    if (key in PIECES and isinstance(value, str)) or (key in (*LISTS, *PIECES) and isinstance(value, list) and value):
        pieces.append(value)
        return type(value).__name__
    if isinstance(value, dict):
        so_far = bool(value.get("choices"))  # usage in the middle of a stream says how far it is, as the pieces do
        return {name: _shape(one, pieces, name) for name, one in value.items() if not (so_far and name == "usage")}
    if isinstance(value, list):
        return [_shape(one, pieces) for one in value]
    return value
