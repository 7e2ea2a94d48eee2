"""A vector fitted to labelled states at several layers, and how well each layer's tells the labels apart on questions
that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.hidden.fit_vector import METHODS, Method
from forkpoint_policies.hidden.separation import Floats, LabelledStates, Separation, separation

from .conditions import Collected
from .splits import PositionSeparation, Split, check_parts, separation_of_position, split_questions

Vectors = Mapping[str, Floats]
"""[D] by layer."""


@dataclass(frozen=True)
class LayerReport:
    """The norm of a layer's vector beside the mean norm of its states, and how well the vector separates them."""

    layer: str
    norm: float
    state_norm: float
    separation: Separation

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "norm": self.norm,
            "state_norm": self.state_norm,
            "auc": {"vector": self.separation.fitted, **self.separation.to_dict()},
        }


@dataclass(frozen=True)
class VectorReport:
    """`position` is what the token's position alone says."""

    answers: int
    without_states: int
    fitted: Split
    held_out: Split
    position: PositionSeparation
    layers: tuple[LayerReport, ...]

    @property
    def best(self) -> LayerReport:
        """The layer that separates held-out questions best."""
        return max(self.layers, key=lambda one: one.separation.fitted)

    def to_dict(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "answers_without_states": self.without_states,
            "fitted": vars(self.fitted),
            "held_out": vars(self.held_out),
            "position": {"auc": self.position.area, "interval": list(self.position.interval)},
            "layers": [one.to_dict() for one in self.layers],
        }


def fit(
    collected: Collected, method: Method, held_out_share: float, placebos: int, seed: int
) -> tuple[Vectors, VectorReport]:
    """Fit on some questions, and measure on the rest. Raises DataError where a part has states of one label only."""
    states = next(iter(collected.layers.values()))
    parts = split_questions(states, {"held out": held_out_share}, "fitted", np.random.default_rng(seed))
    advice = "Take more --questions, or other conditions"
    check_parts(states, parts, ("positive states", "negative states"), advice)
    vectors, reports = {}, []
    for layer in sorted(collected.layers, key=lambda name: int(name.removeprefix("layer."))):
        found = collected.layers[layer]
        train, test = found.of(parts["fitted"]), found.of(parts["held out"])
        vectors[layer] = METHODS[method](train)
        reports.append(
            LayerReport(
                layer,
                float(np.linalg.norm(vectors[layer])),
                float(np.linalg.norm(train.states, axis=1).mean()),
                separation(
                    vectors[layer], train, test, METHODS[method], LabelledStates.shuffled_within_questions,
                    placebos, seed, permutes=True,
                ),
            )
        )  # fmt: skip
    return vectors, VectorReport(
        answers=collected.answers,
        without_states=collected.without_states,
        fitted=Split.of(states.of(parts["fitted"])),
        held_out=Split.of(states.of(parts["held out"])),
        position=separation_of_position(states, collected.position, parts["fitted"], parts["held out"]),
        layers=tuple(reports),
    )


def artefact(
    vectors: Vectors, layers: Sequence[str], model: Model, fitted: str, trained_on: str, scale: float, source: str
) -> Artefact:
    """The vector of these layers as a file that `forkpoint serve --vectors` and `PUT /v1/vectors/NAME` accept."""
    return Artefact(
        kind="vector",
        model=model,
        tensors={layer: vectors[layer].astype(np.float32) for layer in layers},
        fitted=fitted,
        trained_on=trained_on,
        source=source,
        suggested=scale,
    )
