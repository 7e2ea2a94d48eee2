"""A readout fitted to labelled states, and how well it tells right from wrong on questions that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.hidden.fit_readout import LinearReadout, fit_direction, fit_readout
from forkpoint_policies.hidden.separation import LabelledStates, Separation, separation

from .scored import Collected
from .splits import PositionSeparation, Split, check_parts, separation_of_position, split_questions

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
class ReadoutReport:
    """`position` is what the token's position alone says: late tokens are of long answers, which are wrong more often,
    so that a readout must say more than that."""

    answers: int
    right_answers: int
    without_states: int
    fitted: Split
    calibrated: Split
    held_out: Split
    separation: Separation
    position: PositionSeparation
    bins: tuple[Bin, ...]

    @property
    def beats_position(self) -> bool:
        """Whether the area's interval lies above the area of the position alone."""
        return self.separation.interval[0] > self.position.area

    def to_dict(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "right_answers": self.right_answers,
            "answers_without_states": self.without_states,
            **{name: vars(getattr(self, name)) for name in ("fitted", "calibrated", "held_out")},
            "auc": {
                "readout": self.separation.fitted,
                **self.separation.to_dict(),
                "position": self.position.area,
                "position_interval": list(self.position.interval),
            },
            "bins": [vars(one) for one in self.bins],
        }


def fit(collected: Collected, held_out_share: float, placebos: int, seed: int) -> tuple[LinearReadout, ReadoutReport]:
    """Fit on some questions, calibrate on others, and measure on the rest. Raises DataError where a part has only right
    or only wrong answers."""
    states = collected.states
    shares = {"held out": held_out_share, "calibrated": CALIBRATION_SHARE}
    parts = split_questions(states, shares, "fitted", np.random.default_rng(seed))
    advice = "Take more --questions, or data of which the model answers about half"
    check_parts(states, parts, ("right answers", "wrong answers"), advice)
    test, calibration, train = (states.of(part) for part in parts.values())
    readout = fit_readout(train, calibration)
    return readout, ReadoutReport(
        answers=collected.answers,
        right_answers=collected.right_answers,
        without_states=collected.without_states,
        fitted=Split.of(train),
        calibrated=Split.of(calibration),
        held_out=Split.of(test),
        separation=separation(
            readout.weight, train, test, fit_direction, LabelledStates.shuffled_over_questions, placebos, seed
        ),
        position=separation_of_position(states, collected.position, parts["fitted"], parts["held out"]),
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


def _bins(readout: LinearReadout, test: LabelledStates) -> tuple[Bin, ...]:
    probability = 1 / (1 + np.exp(-readout.numbers(test.states)))
    bin_of = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(one / BINS, (one + 1) / BINS, float(test.label[bin_of == one].mean()), int((bin_of == one).sum()))
        for one in range(BINS)
        if (bin_of == one).any()
    )
