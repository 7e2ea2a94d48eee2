"""Fields of a body that are nearly ours: vLLM ignores what it does not know, so `Policy` would silently do nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from forkpoint_server.policies.resolve import FIELDS

from .health import WARNING

ALIKE = 0.8
"""How alike a name must be, from 0 to 1: `fork` is to `forks`, `logprobs` is not to `policy_logprobs`."""
MAX_FIELDS, MAX_CHARACTERS = 64, 40
"""A body with more fields, and a field with a longer name, are left alone."""


def misspelt_fields(body: Mapping[str, Any]) -> list[str]:
    """A warning for each field that is nearly one of ours."""
    warnings = []
    for name in list(body)[:MAX_FIELDS]:
        if name in FIELDS or len(name) > MAX_CHARACTERS:
            continue
        near = difflib.get_close_matches(name.lower().replace("-", "_"), FIELDS, n=1, cutoff=ALIKE)
        if near:
            warnings.append(f"{name!a} is not a field of a request, and was ignored; did you mean {near[0]!r}?")
    return warnings


def warning_of(send: Send, warnings: Sequence[str]) -> Send:
    """A `send` that adds the warnings that there are when the response starts, one header each."""

    async def send_with_warnings(message: Message) -> None:
        if message["type"] == "http.response.start" and warnings:
            headers = MutableHeaders(raw=message["headers"])
            for warning in warnings:
                headers.append(WARNING, warning)
        await send(message)

    return send_with_warnings
