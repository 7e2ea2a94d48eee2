"""The public names of `forkpoint_clients` as a page: signatures, fields and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from pydantic import BaseModel

import forkpoint_clients
from forkpoint_clients import resources, responses, types

SECTIONS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("Clients", (forkpoint_clients.Forkpoint, forkpoint_clients.AsyncForkpoint)),
    ("Routes", (resources.Policies, resources.Experiments, resources.Forks)),
    ("Policies", (forkpoint_clients.policy, forkpoint_clients.rule, forkpoint_clients.use)),
    (
        "Responses",
        (
            forkpoint_clients.forkpoint_of, responses.ForkpointCompletion, responses.ForkpointChunk,
            responses.ForkpointTextCompletion, responses.ForkpointResponse, responses.Summary, responses.Intervention,
            responses.TreeAnswer,
        ),
    ),
    (
        "Traces",
        (
            types.Trace, types.TraceChoice, types.ForkPoint, types.Alternative, types.Verified, types.Outcome,
            types.Tree, types.TreeNode, types.Progress,
        ),
    ),
    (
        "Policies and experiments of a server",
        (
            types.Policy, types.Validation, types.Experiment, types.ExperimentArm, types.ArmCounts, types.Recorded,
            types.Deleted,
        ),
    ),
)  # fmt: skip


def python_page() -> Iterator[str]:
    """Yield the names of the Python client. Inherited fields and methods are the openai SDK's."""
    yield "The names of `forkpoint_clients`; [the Python client](../client.md) shows their use. What they inherit is"
    yield "the openai SDK's. The asynchronous resources have the same methods, to be awaited.\n"
    for title, names in SECTIONS:
        yield f"## {title}\n"
        for name in names:
            yield from _class(name) if isinstance(name, type) else _function(name)


def _class(named: type) -> Iterator[str]:
    yield f"### `{named.__name__}`\n"
    yield f"{_prose(named)}\n"
    if issubclass(named, BaseModel):
        ours = [one for one in reversed(named.__mro__) if one.__module__.startswith("forkpoint_clients")]
        own = {
            name: text
            for one in ours
            for name, text in inspect.get_annotations(one).items()
            if not name.startswith("_")
        }
        if own:
            yield "| field | type |\n| --- | --- |"
            yield from (f"| `{name}` | `{str(text).replace('|', chr(92) + '|')}` |" for name, text in own.items())
            yield ""
    methods = [
        f"- `{name}{_signature(member)}`: {_prose(member)}"
        for name, member in vars(named).items()
        if not name.startswith("_") and inspect.isfunction(member) and inspect.getdoc(member)
    ]
    properties = [
        f"- `{name}`: {_prose(member)}" for name, member in vars(named).items() if isinstance(member, property)
    ]
    if methods or properties:
        yield "\n".join([*properties, *methods]) + "\n"


def _function(named: object) -> Iterator[str]:
    assert inspect.isfunction(named)
    yield f"### `{named.__name__}`\n"
    yield f"`{named.__name__}{_signature(named)}`\n"
    yield f"{_prose(named)}\n"


def _signature(function: object) -> str:
    assert inspect.isfunction(function)
    return re.sub(r"^\(self(, )?", "(", str(inspect.signature(function))).replace("'", "")


def _prose(named: object) -> str:
    """A docstring on one line. Brackets after words are units, not links."""
    return " ".join((inspect.getdoc(named) or "").split())
