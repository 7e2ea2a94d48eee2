"""A readout fitted to labelled states, and how well it tells right from wrong on questions that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.hidden.fit_readout import (
    LabelledStates,
    LinearReadout,
    Separation,
    auc,
    auc_interval,
    fit_readout,
    separation,
)

from .collect import Collected

CALIBRATION_SHARE = 0.25
"""Of the questions that are not held out."""
BINS = 5


@dataclass(frozen=True)
class Bin:
    """Of the held-out states for which the readout says `low` to `high`: how many, and the share of right ones."""

    low: float
    high: float
    right: float
    states: int


@dataclass(frozen=True)
class Split:
    """A part of the questions: states, questions, and the share of states of right answers."""

    states: int
    questions: int
    right: float


@dataclass(frozen=True)
class ReadoutReport:
    """`position` is the area under the ROC curve of the token's position alone, with its interval: late tokens are of
    long answers, which are wrong more often, so that a readout must say more than that."""

    answers: int
    right_answers: int
    without_states: int
    fitted: Split
    calibrated: Split
    held_out: Split
    separation: Separation
    position: float
    position_interval: tuple[float, float]
    bins: tuple[Bin, ...]

    @property
    def beats_chance(self) -> bool:
        """Whether the interval of the area lies above one half, and few fits to shuffled labels are as good."""
        return self.separation.interval[0] > 0.5 and self.separation.p_value < 0.05

    @property
    def beats_position(self) -> bool:
        """Whether the area's interval lies above the area of the position alone."""
        return self.separation.interval[0] > self.position

    def to_dict(self) -> dict[str, Any]:
        found = self.separation
        return {
            "answers": self.answers,
            "right_answers": self.right_answers,
            "answers_without_states": self.without_states,
            **{name: vars(getattr(self, name)) for name in ("fitted", "calibrated", "held_out")},
            "auc": {
                "readout": found.readout,
                "interval": list(found.interval),
                "random_direction": found.random_direction,
                "shuffled_labels": found.shuffled_labels,
                "p_value": found.p_value,
                "position": self.position,
                "position_interval": list(self.position_interval),
            },
            "bins": [vars(one) for one in self.bins],
        }


def fit(collected: Collected, held_out_share: float, placebos: int, seed: int) -> tuple[LinearReadout, ReadoutReport]:
    """Fit on some questions, calibrate on others, and measure on the rest. Raises DataError where a part has only right
    or only wrong answers."""
    states, random = collected.states, np.random.default_rng(seed)
    questions = random.permutation(np.unique(states.question))
    held_out = round(held_out_share * len(questions))
    calibrated = round(CALIBRATION_SHARE * (len(questions) - held_out))
    parts = {
        "held out": questions[:held_out],
        "calibrated": questions[held_out : held_out + calibrated],
        "fitted": questions[held_out + calibrated :],
    }
    for name, part in parts.items():
        _check(name, states.of(part))
    test, calibration, train = (states.of(part) for part in parts.values())
    readout = fit_readout(train, calibration)
    chosen = np.isin(states.question, parts["held out"])
    early = -collected.position[chosen].astype(np.float64)
    sign = 1.0 if _early_is_right(collected, parts["fitted"]) else -1.0
    return readout, ReadoutReport(
        answers=collected.answers,
        right_answers=collected.right_answers,
        without_states=collected.without_states,
        fitted=_split(train),
        calibrated=_split(calibration),
        held_out=_split(test),
        separation=separation(readout, train, test, placebos, seed),
        position=auc(sign * early, test.right),
        position_interval=auc_interval(sign * early, test.right, test.question),
        bins=_bins(readout, test),
    )


def artefact(
    readout: LinearReadout, model: Model, fitted: str, trained_on: str, threshold: float, source: str
) -> Artefact:
    """The readout as a file that `forkpoint serve --vectors` and `PUT /v1/vectors/NAME` accept."""
    return Artefact(
        kind="readout",
        model=model,
        tensors={"weight": readout.weight.astype(np.float32), "bias": np.array(readout.bias, np.float32)},
        fitted=fitted,
        trained_on=trained_on,
        source=source,
        suggested=threshold,
        output="probability",
    )


def _check(name: str, part: LabelledStates) -> None:
    if len(part.right) and part.right.any() and not part.right.all():
        return
    which = "no states" if not len(part.right) else "only right answers" if part.right.all() else "only wrong answers"
    raise DataError(
        f"the questions that are {name} have {which}: there is nothing to tell apart. Take more --questions, or data "
        "of which the model answers about half"
    )


def _early_is_right(collected: Collected, questions: NDArray[np.int64]) -> bool:
    """Whether earlier tokens are those of right answers, among the questions that are fitted."""
    chosen = np.isin(collected.states.question, questions)
    return auc(-collected.position[chosen].astype(np.float64), collected.states.right[chosen]) >= 0.5


def _split(part: LabelledStates) -> Split:
    return Split(len(part.right), len(np.unique(part.question)), float(part.right.mean()))


def _bins(readout: LinearReadout, test: LabelledStates) -> tuple[Bin, ...]:
    probability = 1 / (1 + np.exp(-readout.numbers(test.states)))
    bin_of = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(one / BINS, (one + 1) / BINS, float(test.right[bin_of == one].mean()), int((bin_of == one).sum()))
        for one in range(BINS)
        if (bin_of == one).any()
    )
