"""What a rule does, compiled."""

from __future__ import annotations

from typing import Any

from forkpoint_policies.actions.definition import Fields, ServedNumbers
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.spec import (
    Do,
    EndReasoning,
    Force,
    InputError,
    Recycle,
    Resume,
    Sample,
    Steer,
    Stop,
    Truncate,
    unknown_name,
)

from .compilation import Compilation
from .curves import constant, curve
from .further_requests import written_tokens
from .program import NO_TOKEN, Action
from .written_texts import MAX_FORCED, end_of_reasoning, reasoning_end, text_tokens


def action_of(build: Compilation, do: Do, field: str) -> dict[str, Any]:
    """The fields of a CompiledRule that say what a rule does. Raises InputError where the served model cannot do it."""
    if do.suppress is not None:
        action = Action.MASK if do.suppress.bias is None else Action.BIAS
        return {
            "action": action,
            "strength": curve(build, do.suppress.bias or 0.0),
            "target": (build.sets.tokens if action == Action.MASK else build.sets.biased)(do.suppress, field),
        }
    if do.amplify is not None:
        return {
            "action": Action.BIAS,
            "strength": curve(build, do.amplify.bias),
            "target": build.sets.biased(do.amplify, field),
        }
    if do.temperature is not None:
        return {
            "action": Action.TEMPERATURE if do.temperature != 0 else Action.LIKELIEST,
            "strength": curve(build, do.temperature),
        }
    if do.truncate is not None:
        return {"action": Action[do.truncate.kind.upper()], "strength": constant(_cut(build, do.truncate, field))}
    if do.observe is not None:
        return {"action": Action.OBSERVE, "strength": constant(0.0)}
    if do.steer is not None:
        return {
            "action": Action.STEER,
            "strength": curve(build, do.steer.scale),
            "vector": _vector(build, do.steer, field),
            "num_tokens": do.steer.tokens,
            "from_here": do.steer.is_from_here,
        }
    if do.recycle is not None:
        return {
            "action": Action.RECYCLE_AGAIN if do.recycle.draws_again else Action.RECYCLE,
            "strength": constant(1.0),
            "layer": _layer(build, do.recycle, field),
            "num_tokens": do.recycle.tokens,
            "from_here": do.recycle.is_from_here,
        }
    if do.action in ACTIONS:
        return {
            "action": Action.DECLARED,
            "strength": constant(0.0),
            "declared": do.action,
            "parameters": _parameters(build, do.action, getattr(do, do.action)),
        }
    if do.tree_action is not None:
        build.written = written_tokens(build, do.tree_action, field)
        nowhere = {"at_most": 0} if isinstance(do.tree_action, Sample | Resume) else {}
        return {"action": Action.TREE, "strength": constant(0.0), **nowhere}
    return {
        "action": Action.FORCE,
        "strength": constant(0.0),
        **_forced(build, do.force or do.end_reasoning or do.stop, field),
    }


def _parameters(build: Compilation, name: str, fields: Fields) -> list[float]:
    """The numbers of an action that is a file of its own."""
    known = ServedNumbers(build.target.fork_threshold, build.target.vocabulary.size)
    return [float(number) for number in ACTIONS[name].compile(fields, known)]


def _cut(build: Compilation, truncate: Truncate, field: str) -> float:
    size = float(getattr(truncate, truncate.kind))
    if truncate.kind == "top_k" and size > build.target.vocabulary.size:
        raise InputError(
            f"{field}.top_k", f"is more than the {build.target.vocabulary.size} tokens of the served model"
        )
    return size


def _vector(build: Compilation, steer: Steer, field: str) -> str:
    """The digest of the vector that a rule adds. Raises InputError where the server cannot add it."""
    hooked, known = build.target.hidden_layers, build.target.artefacts
    if not hooked:
        raise InputError(field, "needs a server that was started with --hidden-layers, and the layers of the vector")
    vectors = [name for name, artefact in known.items() if artefact.kind == "vector"]
    if not vectors:
        raise InputError(f"{field}.vector", "this server has no vectors (--vectors, PUT /v1/vectors/NAME)")
    if steer.vector not in vectors:
        raise InputError(f"{field}.vector", unknown_name("vector", steer.vector, vectors, "GET /v1/vectors"))
    missing = [layer for layer in known[steer.vector].layers if layer not in hooked]
    if missing:
        raise InputError(
            f"{field}.vector",
            f"{steer.vector!r} is for layer {missing[0]}, which is not hooked: this server was started with "
            f"--hidden-layers {','.join(map(str, hooked))}",
        )
    return known[steer.vector].digest


def _layer(build: Compilation, recycle: Recycle, field: str) -> int:
    """The layer that a rule runs again. Raises InputError where the server cannot."""
    possible = build.target.recycle_layers
    if not possible:
        raise InputError(field, f"needs a server that was started with --recycle-layers, {recycle.layer} among them")
    if recycle.layer not in possible:
        raise InputError(
            f"{field}.layer",
            f"layer {recycle.layer} cannot be run again: this server was started with --recycle-layers "
            f"{','.join(map(str, possible))}",
        )
    if recycle.draws_again and build.target.speculates:
        raise InputError(
            f"{field}.from",
            "`again` cannot be had on this server, which was started with --speculative-config: positions after "
            "drafts are not computed again; use `next` or `here`",
        )
    return recycle.layer


def _forced(build: Compilation, action: Force | EndReasoning | Stop | None, field: str) -> dict[str, Any]:
    assert action is not None
    if isinstance(action, EndReasoning):
        text = reasoning_end(build, field)
        if action.before:
            text = [*text_tokens(build, action.before, f"{field}.before"), *text]
        if action.after:
            text = [*text, *text_tokens(build, action.after, f"{field}.after")]
        if len(text) > MAX_FORCED:
            raise InputError(field, f"writes {len(text)} tokens of the served model; {MAX_FORCED} at most")
    elif isinstance(action, Stop):
        text = [build.target.stop]
        if build.target.stop == NO_TOKEN:
            raise InputError(field, "cannot be done: the served model has no token that ends its text")
    else:
        text = text_tokens(build, action.text, f"{field}.text")
    if action.instead_of is None:
        return {"text": text}
    if action.instead_of == "end_of_reasoning":
        return {"text": text, "instead": True, "target": end_of_reasoning(build, f"{field}.instead_of")}
    return {"text": text, "instead": True, "target": build.sets.tokens(action.instead_of, f"{field}.instead_of")}
