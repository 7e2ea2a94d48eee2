"""InputError names the field that is wrong; `explain` makes one from a pydantic ValidationError."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_MESSAGES = {
    "missing": "is missing",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "dict_type": "must be an object",
}
"""By pydantic's type of error, where its own message would not be clear to someone who writes JSON."""


MAX_LISTED = 10
"""Names that a message lists: an error is read in a client's traceback."""
MAX_NEAR = 3
"""Names that a message suggests where there are more."""
MAX_QUOTED = 64
"""Characters that a message quotes of a wrong name."""


class InputError(ValueError):
    """Input that cannot be used; `field` is the path of the part that is wrong, as in `policy.rules[0].do`."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def name_some(names: Collection[str], wrong: str) -> str:
    """The names that can be written instead of a wrong one: all if they are few, else those most like it."""
    if len(names) <= MAX_LISTED:
        return ", ".join(names)
    near = difflib.get_close_matches(wrong[:MAX_QUOTED], names, n=MAX_NEAR)
    shown = [name for name in names if name in near] or list(names)[:MAX_LISTED]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def unknown_name(what: str, wrong: str, names: Collection[str], listed: str = "") -> str:
    """Says that there is no `what` of this name, and which names there are; `listed` is where all of them are."""
    quoted = repr(wrong if len(wrong) <= MAX_QUOTED else wrong[:MAX_QUOTED] + "…")
    if len(names) > MAX_LISTED and (near := difflib.get_close_matches(wrong[:MAX_QUOTED], names, n=MAX_NEAR)):
        return f"there is no {what} {quoted}; did you mean {' or '.join(near)}?"
    return f"there is no {what} {quoted}; there are {name_some(names, wrong)}" + (f" ({listed})" if listed else "")


def explain(
    error: ValidationError, model: type[BaseModel], path: str = "", noun: str = "", messages: Mapping[str, str] = {}
) -> InputError:
    """The first of a ValidationError's errors, as an InputError with its path and with the fields that `model` has
    there.

    `path` is put before the error's own path. `noun` says what the model describes, as in "a policy". `messages`
    replaces messages by pydantic's type of error.

    A validator of the whole model has no path: if `path` is empty, its message names the field, as in "interval: must
    …".
    """
    errors = error.errors(include_url=False, include_context=False)
    first = errors[0]
    kind, field = first["type"], _path(first, model, path)
    if kind in messages:
        return InputError(field or "body", messages[kind])
    if kind == "extra_forbidden":
        owner = f"of {noun}" if noun else "here"
        fields = [name for part in _walk(first, model)[-1][1] for name in _fields(part)]
        known = name_some(fields, str(first["loc"][-1])) or "nothing"
        return InputError(field, f"is not a field {owner}; here one can write {known}")
    if kind in _MESSAGES:
        return InputError(field or "body", _MESSAGES[kind])
    # each member of a union has its own error at the same path
    same = [one["msg"].removeprefix("Value error, ") for one in errors if _path(one, model, path) == field]
    if not field and ": " in same[0]:
        field, _, message = same[0].partition(": ")
        return InputError(field, message)
    return InputError(
        field or "body", " or ".join([same[0], *(message.removeprefix("Input should be ") for message in same[1:])])
    )


def _path(error: ErrorDetails, model: type[BaseModel], path: str) -> str:
    """Where an error is. Parts of pydantic's location that name a union's member are left out: no user wrote them."""
    return (path + "".join(part for part, _ in _walk(error, model))).removeprefix("." if not path else "")


def _walk(error: ErrorDetails, model: type[BaseModel]) -> list[tuple[str, tuple[type[BaseModel], ...]]]:
    """The parts of an error's path, each with the models that can be there; an unknown field has those of its owner."""
    location = error["loc"]
    models: tuple[type[BaseModel], ...] = (model,)
    parts: list[tuple[str, tuple[type[BaseModel], ...]]] = []
    for number, name in enumerate(location):
        if isinstance(name, int):
            parts.append((f"[{name}]", models))
            continue
        annotations = [own[name].annotation for part in models if name in (own := _fields(part))]
        if annotations:
            models = tuple(dict.fromkeys(inner for annotation in annotations for inner in _models_in(annotation)))
            parts.append((f".{name}", models))
        elif error["type"] in ("extra_forbidden", "missing") and number == len(location) - 1:
            parts.append((f".{name}", models))
    return parts


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields, by the names that a user writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, within unions, Annotated and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
