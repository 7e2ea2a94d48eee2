"""Vectors and readouts as files: the directions in a model's hidden states that policies name.

Each is a safetensors file whose metadata say for which model it is and how it was fitted. Reading one checks
everything, since it may come from anywhere; it never runs code. NumPy only, so that clients can write them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from forkpoint_policies.spec import InputError, is_name

Kind = Literal["vector", "readout"]
Output = Literal["probability", "number"]
KINDS: tuple[Kind, ...] = ("vector", "readout")
OUTPUTS: tuple[Output, ...] = ("number", "probability")
Tensors = Mapping[str, NDArray[np.float32]]

MAX_BYTES = 16 << 20
MAX_TEXT = 1000
"""Characters of a field of the metadata."""
MAX_LAYERS = 4096
MAX_UNITS = 1024
"""Of the inner layer of a readout."""
SUFFIX = ".safetensors"

_LENGTH_BYTES = 8
"""With which a safetensors file states the length of its JSON header."""
_LAYER = re.compile(r"layer\.(0|[1-9][0-9]{0,3})")
_SUGGESTION = {"vector": "scale", "readout": "threshold"}
"""The field with the number to start from when a policy uses the artefact."""


@dataclass(frozen=True)
class Model:
    """Which models an artefact is for: all of this architecture (as in their config.json) and width."""

    architecture: str
    hidden_size: int

    def __str__(self) -> str:
        return f"{self.architecture} with {self.hidden_size} dimensions"


@dataclass(frozen=True, eq=False)
class Artefact:
    """A vector or a readout. `fitted` says how it was made, `trained_on` names the model, `source` where it is from.

    A vector has `layer.N` [D] for each layer to whose output it is added. A readout maps the last layer's state h [D],
    after the final norm, to a number: `weight` [D] · h + `bias` [], or `w2` [U] · relu(`w1` [U, D] · h + `b1` [U]) +
    `b2` []. With the output `probability`, its value is the logistic function of that number. `suggested` is a vector's
    scale or a readout's threshold, NaN if none was named.
    """

    kind: Kind
    model: Model
    tensors: Tensors
    fitted: str
    trained_on: str = ""
    source: str = ""
    suggested: float = math.nan
    output: Output = "number"

    @cached_property
    def raw(self) -> bytes:
        """The file."""
        fields = {
            "kind": self.kind,
            "architecture": self.model.architecture,
            "hidden_size": str(self.model.hidden_size),
            "fitted": self.fitted,
            "model": self.trained_on,
            "source": self.source,
            **({"output": self.output} if self.kind == "readout" else {}),
            **({} if math.isnan(self.suggested) else {_SUGGESTION[self.kind]: repr(self.suggested)}),
        }
        arrays = {name: np.array(array, np.float32, order="C") for name, array in self.tensors.items()}
        return save(arrays, metadata={name: text for name, text in fields.items() if text})

    @cached_property
    def digest(self) -> str:
        """Of all that the artefact says: equal artefacts have equal digests, however their files are arranged."""
        texts = (self.kind, str(self.model), self.fitted, self.trained_on, self.source, self.output)
        found = sha256(json.dumps([*texts, repr(self.suggested)]).encode())
        for name in sorted(self.tensors):
            found.update(f"{name} {self.tensors[name].shape}".encode())
            found.update(self.tensors[name].astype("<f4").tobytes())
        return found.hexdigest()

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of a vector, the first first; none of a readout, which reads the last one's."""
        return tuple(sorted(int(name.removeprefix("layer.")) for name in self.tensors)) if self.kind == "vector" else ()

    def to_dict(self) -> dict[str, Any]:
        """As the API shows it; `norms` are the Euclidean ones of the tensors."""
        return {
            "kind": self.kind,
            "digest": self.digest,
            "architecture": self.model.architecture,
            "hidden_size": self.model.hidden_size,
            "model": self.trained_on,
            "fitted": self.fitted,
            "source": self.source,
            _SUGGESTION[self.kind]: None if math.isnan(self.suggested) else self.suggested,
            **({"output": self.output} if self.kind == "readout" else {"layers": list(self.layers)}),
            "shapes": {name: list(array.shape) for name, array in sorted(self.tensors.items())},
            "norms": {name: float(np.linalg.norm(array.astype(np.float64))) for name, array in self.tensors.items()},
        }


def read_artefact(raw: bytes, field: str, served: Model | None = None) -> Artefact:
    """Read a file and check all of it; `served` is the model that it must be for. Raises InputError."""
    if len(raw) > MAX_BYTES:
        raise InputError(field, f"has {len(raw) / (1 << 20):.1f} MiB; a vector or readout has at most 16")
    fields = _metadata(raw, field)
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise InputError(field, f"is not a safetensors file: {' '.join(str(error).split())}") from None
    kind = next((one for one in KINDS if one == fields.get("kind")), None)
    if kind is None:
        raise InputError(field, f"its metadata must have `kind`, `vector` or `readout`, not {fields.get('kind')!r}")
    if not fields.get("architecture") or not fields.get("fitted"):
        missing = "architecture" if not fields.get("architecture") else "fitted"
        meaning = "of the model, as in its config.json" if missing == "architecture" else "how it was made"
        raise InputError(field, f"its metadata lack `{missing}`: {meaning}")
    output = next((one for one in OUTPUTS if one == fields.get("output", "number")), None)
    if output is None:
        raise InputError(field, f"`output` must be `probability` or `number`, not {fields['output'][:50]!r}")
    model = Model(fields["architecture"], _hidden_size(fields, field))
    if served is not None and model != served:
        raise InputError(field, f"is for {model}, but the served model is {served}")
    _check_tensors(kind, model.hidden_size, tensors, field)
    return Artefact(
        kind=kind,
        model=model,
        tensors=tensors,
        fitted=fields["fitted"],
        trained_on=fields.get("model", ""),
        source=fields.get("source", ""),
        suggested=_suggestion(fields, _SUGGESTION[kind], field),
        output=output,
    )


def check_artefact_name(name: str, field: str) -> None:
    """Raise InputError for a name that no artefact can have: it is that of its file, without the suffix."""
    if not is_name(name):
        raise InputError(field, f"{name[:100]!r} is not a name: up to 64 letters, digits, '.', '_' and '-'")


def _metadata(raw: bytes, field: str) -> dict[str, str]:
    """The strings of a file's header."""
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    if len(raw) < _LENGTH_BYTES or length > len(raw) - _LENGTH_BYTES:
        raise InputError(field, "is not a safetensors file, the only kind that is read")
    try:
        header = json.loads(raw[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except (ValueError, RecursionError):
        raise InputError(field, "is not a safetensors file, the only kind that is read") from None
    fields = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(fields, dict):
        raise InputError(field, "has no metadata: what kind it is, for which model, and how it was fitted")
    for name, text in fields.items():
        if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
            raise InputError(field, f"the metadata `{str(name)[:50]}` must be one line of up to {MAX_TEXT} characters")
    kinds = {str(one.get("dtype")) for name, one in header.items() if name != "__metadata__" and isinstance(one, dict)}
    if kinds - {"F32"}:
        raise InputError(field, f"its tensors must be float32 (F32), not {', '.join(sorted(kinds - {'F32'}))[:50]}")
    return fields


def _hidden_size(fields: Mapping[str, str], field: str) -> int:
    text = fields.get("hidden_size", "")
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= 1 << 20:
        raise InputError(field, f"`hidden_size` must be the width of the model's states, not {text[:20]!r}")
    return int(text[:9])


def _suggestion(fields: Mapping[str, str], name: str, field: str) -> float:
    text = fields.get(name)
    if text is None:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(field, f"`{name}` must be a number, not {text[:20]!r}")
    return number


def _check_tensors(kind: Kind, size: int, tensors: Tensors, field: str) -> None:
    """Raise InputError for other names or shapes than those of the kind, and for values that are not finite."""
    shapes = {name: array.shape for name, array in tensors.items()}
    if kind == "vector":
        wrong = [name for name in shapes if not _LAYER.fullmatch(name)]
        if wrong or not shapes:
            found = repr(wrong[0][:50]) if wrong else "nothing"
            raise InputError(field, f"a vector has tensors layer.N, one for each layer, not {found}")
        if len(shapes) > MAX_LAYERS:
            raise InputError(field, f"a vector has at most {MAX_LAYERS} layers, not {len(shapes)}")
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(shapes, (size,))
    elif set(shapes) == {"weight", "bias"}:
        expected = {"weight": (size,), "bias": ()}
    elif set(shapes) == {"w1", "b1", "w2", "b2"}:
        units = shapes["b1"][0] if len(shapes["b1"]) == 1 else 0
        if not 1 <= units <= MAX_UNITS:
            raise InputError(field, f"b1 must be [units], 1 to {MAX_UNITS} of them, not {list(shapes['b1'])}")
        expected = {"w1": (units, size), "b1": (units,), "w2": (units,), "b2": ()}
    else:
        found = ", ".join(sorted(shapes))[:100] or "none"
        raise InputError(field, f"a readout has the tensors weight and bias, or w1, b1, w2 and b2, not {found}")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise InputError(field, f"{name} must be {list(shape)}, not {list(shapes[name])}")
        if not np.isfinite(tensors[name]).all():
            raise InputError(field, f"{name} has values that are not finite")
