"""What a request asks of its response, in fields of its body beside `policy`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from forkpoint_policies.spec import InputError


def _one_of(default: Any, *others: Any) -> Any:
    """A field with the values that a body can have, the default first."""
    return dataclasses.field(default=default, metadata={"values": (default, *others)})


@dataclass(frozen=True)
class RequestOptions:
    """Each attribute is a field of the body by the same name, which is removed before vLLM reads the body."""

    forks: bool = _one_of(False, True)  # the response lists the fork points
    policy_logprobs: bool = _one_of(False, True)  # the response has log probabilities of the distribution sampled from
    stop_in: Literal["anywhere", "answer"] = _one_of("anywhere", "answer")  # where `stop` strings stop


DEFAULTS = dataclasses.asdict(RequestOptions())
"""The fields of a body, with their defaults."""


def read_options(body: Mapping[str, Any]) -> RequestOptions:
    """Read a body's options; one that is missing or null has its default. Raises InputError for a wrong value."""
    read: dict[str, Any] = {}
    for option in dataclasses.fields(RequestOptions):
        value = body.get(option.name)
        if value is None:
            continue
        values = option.metadata["values"]
        if type(value) is not type(option.default) or value not in values:
            expected = " or ".join(map(json.dumps, reversed(values)))
            raise InputError(option.name, f"must be {expected}, not {str(value)[:100]!r}")
        read[option.name] = value
    return RequestOptions(**read)
