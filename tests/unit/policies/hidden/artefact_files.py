"""Artefacts for tests, and files that are wrong in one way each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from forkpoint_policies.hidden.artefact import Artefact, Model

SIZE = 6
MODEL = Model("Qwen3ForCausalLM", SIZE)

VECTOR = Artefact(
    kind="vector",
    model=MODEL,
    tensors={"layer.2": np.arange(SIZE, dtype=np.float32), "layer.10": np.ones(SIZE, np.float32)},
    fitted="mean difference of 10 states",
    trained_on="demo",
    source="arXiv:2504.07986",
    suggested=1.5,
)


def readout(weight: NDArray[np.float32] | None = None, bias: float = 0.5, model: Model = MODEL) -> Artefact:
    """A linear one, whose values are probabilities."""
    chosen = np.linspace(-1, 1, model.hidden_size) if weight is None else weight
    tensors = {"weight": chosen.astype(np.float32), "bias": np.array(bias, np.float32)}
    return Artefact("readout", model, tensors, "by hand", suggested=0.85, output="probability")


def mlp_readout(model: Model = MODEL, units: int = 3) -> Artefact:
    """One with an inner layer, whose values are any numbers."""
    source = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {"w1": (units, model.hidden_size), "b1": (units,), "w2": (units,), "b2": ()}
    tensors = {name: np.asarray(source.normal(size=shape), np.float32) for name, shape in shapes.items()}
    return Artefact("readout", model, tensors, "by hand")


METADATA = {"kind": "readout", "architecture": "Qwen3ForCausalLM", "hidden_size": str(SIZE), "fitted": "by hand"}


def changed_file(metadata: dict[str, str] | None = None, **tensors: NDArray[np.generic] | None) -> bytes:
    """A linear readout's file, with some fields or tensors replaced, or left out where None."""
    arrays = {"weight": np.ones(SIZE, np.float32), "bias": np.array(0, np.float32), **tensors}
    said = {name: text for name, text in {**METADATA, **(metadata or {})}.items() if text}
    return save({name: array for name, array in arrays.items() if array is not None}, metadata=said)
