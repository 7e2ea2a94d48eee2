"""What of two answers must be the same: all but made-up names, times, and where a stream was cut into pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from .calls import Call

MADE_UP = re.compile(r"\b(chatcmpl|cmpl|resp|msg|rs|fc|call|modelperm|tool|generate-tokens)([-_])([0-9a-zA-Z-]{8,})")
"""Names that a server makes up for an answer and its parts, after what says of which kind it is."""
MADE_UP_WHOLLY = {"signature": re.compile("[0-9a-f]{32}"), "x-request-id": re.compile("[0-9a-f]{32}|[0-9a-f-]{36}")}
"""Fields that hold nothing but such a name, and how it looks."""
TIMES = ("created", "created_at", "completed_at", "uptime")
PASSING = ("date", "content-length")
"""Headers that differ from one answer to the next of the same server."""
EXPOSED = "access-control-expose-headers"
"""Forkpoint names its own headers to pages of other sites."""
OURS, OUR_HEADERS, WARNING = "forkpoint", "x-forkpoint-", "x-forkpoint-warning"
"""What Forkpoint adds under a policy; a warning of /health always."""
STREAM_HEADERS = ("x-accel-buffering", "cache-control")
"""What Forkpoint adds to an event stream under a policy."""

PIECES = ("content", "reasoning", "text", "delta", "arguments", "partial_json", "thinking", "token_ids")
LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
"""What a stream reports piece by piece; how many tokens a piece has is a matter of time."""
PLACES = ("index", "output_index", "content_index", "item_id")
"""The fields that say to what a piece belongs."""
SO_FAR = ("completion_tokens", "total_tokens")
"""Counts that grow with the pieces, until a choice ends."""
SECONDS = 300


@dataclass(frozen=True)
class Answered:
    """An answer as far as it is compared; `has_forkpoint` says whether it has our object."""

    status: int
    kind: str
    headers: dict[str, Any]
    body: Any
    has_forkpoint: bool = field(compare=False)


@dataclass
class Names:
    """Generated names by order of appearance: a name that appears twice in one answer must do so in the other."""

    known: dict[str, int] = field(default_factory=dict)

    def alias(self, name: str) -> str:
        """What stands for a name: how it looks, and which of the answer's names it is."""
        number = self.known.setdefault(name, len(self.known))
        return f"{re.sub('[0-9a-zA-Z]', 'x', name)}#{number}"


def send(url: str, call: Call, policy: str | None = None, by_header: bool = False) -> Answered:
    """Send a call. With a policy, which only Forkpoint knows, its report is left out of what is compared."""
    body = call.body
    if policy is not None and not by_header:
        assert isinstance(body, dict)
        body = {**body, "policy": policy}
    content = body if isinstance(body, bytes) else None
    keywords = {} if content is not None or body is None else {"json": body}
    sent = {**dict(call.headers), **({"X-Forkpoint-Policy": policy} if policy is not None and by_header else {})}
    answer = httpx.request(call.method, url + call.path, content=content, headers=sent, timeout=SECONDS, **keywords)  # type: ignore[arg-type]
    names, observed = Names(), policy is not None
    headers = {
        name: _plain(value, names, observed, name)
        for name, value in answer.headers.items()
        if name not in (*PASSING, WARNING, EXPOSED)
        and not (observed and (name.startswith(OUR_HEADERS) or name in STREAM_HEADERS))
    }
    kind = answer.headers.get("content-type", "").partition(";")[0]
    has_forkpoint = f'"{OURS}"' in answer.text
    if kind == "text/event-stream":
        return Answered(answer.status_code, kind, headers, streamed(answer.text, names, observed), has_forkpoint)
    if kind == "application/json" and answer.content:
        return Answered(answer.status_code, kind, headers, _plain(answer.json(), names, observed), has_forkpoint)
    return Answered(answer.status_code, kind, headers, answer.text, has_forkpoint)


def streamed(text: str, names: Names, observed: bool = False) -> dict[str, Any]:
    """A stream of server-sent events, by choice: but for the openings, the order of choices depends on timing."""
    events = [part for event in _events(text, observed) for part in _parts(event)]
    choices = [_choice(event) for event in events]
    last = max((place for place, choice in enumerate(choices) if choice is not None), default=-1)
    return {
        "openings": [(place, choice) for place, choice in enumerate(choices) if _opens(events[place])],
        "ends after its choices": None not in choices[: last + 1],
        "choices": {
            choice: _joined([event for event, of in zip(events, choices, strict=True) if of == choice], names, observed)
            for choice in sorted(set(choices), key=lambda choice: -1 if choice is None else choice)
        },
    }


def _events(text: str, observed: bool) -> Iterator[dict[str, Any]]:
    place = 0
    for block in text.split("\n\n"):
        if not block.strip():
            continue
        fields = [line.partition(": ") for line in block.splitlines()]
        data: Any = "\n".join(value for name, _, value in fields if name == "data")
        if data != "[DONE]":
            data = json.loads(data)
        if observed and isinstance(data, dict):
            data = {key: value for key, value in data.items() if key != OURS}
        if isinstance(data, dict) and "sequence_number" in data:
            data = {**data, "sequence_number": data["sequence_number"] - place}
        place += 1
        yield {
            "names": [name for name, _, _ in fields],
            "event": dict(field[::2] for field in fields).get("event"),
            "data": data,
        }


def _parts(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The event, or one for each piece of a tool call in it: how many pieces an event has depends on timing."""
    first = _first(event)
    calls = (first.get("delta") or {}).get("tool_calls") or []
    for call in calls[:-1]:
        choice = {**first, "delta": {"tool_calls": [call]}, "finish_reason": None}
        yield {**event, "data": {**event["data"], "choices": [choice]}}
    if calls:
        first["delta"]["tool_calls"] = calls[-1:]
    yield event


def _first(event: dict[str, Any]) -> dict[str, Any]:
    """A chunk's one choice; empty at the end of a stream, and in streams without choices."""
    choices = event["data"].get("choices") if isinstance(event["data"], dict) else None
    first: dict[str, Any] = choices[0] if choices else {}
    return first


def _choice(event: dict[str, Any]) -> int | None:
    return _first(event).get("index")


def _opens(event: dict[str, Any]) -> bool:
    return "role" in (_first(event).get("delta") or {})


def _ends(event: dict[str, Any]) -> bool:
    return _first(event).get("finish_reason") is not None


def _joined(events: list[dict[str, Any]], names: Names, observed: bool) -> dict[str, Any]:
    """The events without their pieces and without repetition; and the pieces, joined, in their order."""
    frames: list[Any] = []
    texts: list[list[Any]] = []
    lists: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
    ended = False
    for event in events:
        pieces: list[tuple[tuple[str, ...], Any]] = []
        plain = _plain(event, names, observed)
        frame, places = _frame(plain, pieces), json.dumps(_places(plain))
        for path, piece in pieces:
            if isinstance(piece, list):
                lists[places, path] = lists.get((places, path), []) + piece
            elif piece and texts and texts[-1][:2] == [places, path]:
                texts[-1][2] += piece
            elif piece:
                texts.append([places, path, piece])
        if not pieces or frame not in frames or ended:
            frames.append(frame)
        ended |= _ends(event)
    ends = next((place for place, frame in enumerate(frames) if _ends(frame)), 0)
    before = [frame for frame in frames[:ends] if frame != _going_on(frames[ends])]
    return {"frames": before + frames[ends:], "texts": texts, "lists": lists}


def _going_on(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame of a piece before this last one of a choice. It says nothing more, and may have come with the last."""
    (choice,) = frame["data"]["choices"]
    without = {name: value for name, value in choice.items() if name != "stop_reason"}
    data = {**frame["data"], "choices": [{**without, "finish_reason": None}]}
    if data.get("usage") is not None:
        data["usage"] = _constant(data["usage"])
    return {**frame, "data": data}


def _constant(usage: dict[str, Any]) -> dict[str, Any]:
    """Usage without the counts that grow with the pieces."""
    return {name: count for name, count in usage.items() if name not in SO_FAR}


def _frame(value: Any, pieces: list[tuple[tuple[str, ...], Any]], path: tuple[str, ...] = ()) -> Any:
    """A value with its pieces taken out of it, into the list."""
    if isinstance(value, list):
        found = [_frame(one, pieces, path) for one in value]
        return [one for one in found if not (path[-1:] == ("tool_calls",) and set(one) <= {"index"})]
    if not isinstance(value, dict):
        return value
    going_on = bool(value.get("choices")) and value["choices"][0].get("finish_reason") is None
    rest = {}
    for name, one in value.items():
        if (name in PIECES and isinstance(one, str | list)) or (name in LISTS and isinstance(one, list)):
            pieces.append(((*path, name), one))
        elif name == "usage" and going_on and one is not None:
            rest[name] = _constant(one)
        else:
            found = _frame(one, pieces, (*path, name))
            if found != {} and (found != [] or name != "tool_calls"):  # else it holds nothing but pieces, if any
                rest[name] = found
    return rest


def _places(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [place for one in value for place in _places(one)]
    if not isinstance(value, dict):
        return []
    own = [[name, value[name]] for name in PLACES if name in value]
    return own + [place for one in value.values() for place in _places(one)]


def _plain(value: Any, names: Names, observed: bool, key: str = "") -> Any:
    """A value with an alias for each made-up name and without times; without our own object, where it is expected."""
    if isinstance(value, dict):
        return {
            name: _plain(one, names, observed, name) for name, one in value.items() if not (observed and name == OURS)
        }
    if isinstance(value, list):
        return [_plain(one, names, observed, key) for one in value]
    if key in TIMES and isinstance(value, int | float):
        return 0
    if isinstance(value, str):
        wholly = MADE_UP_WHOLLY.get(key)
        if wholly is not None and wholly.fullmatch(value):
            return names.alias(value)
        return MADE_UP.sub(lambda found: found[1] + found[2] + names.alias(found[3]), value)
    return value
