"""When a rule fires."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .fields import (
    MAX_WINDOW,
    Chance,
    Name,
    Nats,
    Number,
    Place,
    Probability,
    Region,
    Schedule,
    SquareNats,
    Strict,
    Tokens,
    Word,
    WordMatch,
    check_families,
    check_word_match,
    check_words,
)

CONFIDENCE_TOKENS = 20
"""Confidence at a position is the mean negative log-probability of this many likeliest tokens (arXiv:2508.15260)."""


AT_TEMPERATURE = (
    "entropy_above", "entropy_below", "varentropy_above", "varentropy_below", "top_probability_above",
    "top_probability_below", "mean_entropy_below",
)  # fmt: skip
"""The bounds to which `at_temperature` applies."""

MAX_RANK_WINDOW = 512
RANK_BOUNDS = (
    "effective_rank_above", "effective_rank_below", "effective_rank_velocity_above", "effective_rank_velocity_below",
    "effective_rank_acceleration_above", "effective_rank_acceleration_below",
)  # fmt: skip
"""The bounds on the effective rank of a request's hidden states and its changes (arXiv:2509.23808)."""
Rank = Annotated[Number, Field(ge=1, le=MAX_RANK_WINDOW)]
RankChange = Annotated[Number, Field(ge=-MAX_RANK_WINDOW, le=MAX_RANK_WINDOW)]


MAX_READOUTS = 4
"""That a policy names."""
READOUT_BOUNDS = ("readout_above", "readout_below")


OF_TEXT = (
    "connectors", "words", "match", "since_connector_below", "previous", "region", "after_token", "before_token",
    "every", "probability", "at_most",
)  # fmt: skip
"""The fields that depend on the text and on chance alone: they can be decided before the model computes a position."""
OF_CONNECTORS = ("connector_probability_above", "connector_likeliest", "since_connector_below")
"""The fields that are about the `connectors` and `words` of the same condition."""
OF_EARLIER = (
    "entropy_quantile_above", "mean_entropy_below", "confidence_below", *RANK_BOUNDS, *READOUT_BOUNDS,
)  # fmt: skip
"""The fields that depend on the distributions of earlier positions, or on hidden states."""
_OPTIONS = ("mean_entropy_window", "confidence_window", "rank_window", "rank_stride")
"""Those that say nothing alone, and have a value even so."""


class ReadoutBound(Strict):
    """A bound on the value of a readout, by the readout's name."""

    name: Name
    value: Annotated[Number, Field(ge=-1e6, le=1e6)]


class Previous(Tokens):
    """The end of the generated text: a word or token of a set, or one of the `endings`, such as a line break or a full
    stop.

    With `ending_match` `token`, the last token is exactly one of the endings; those that are no token of the served
    model are left out, and if none is one, all are matched as text.
    """

    endings: tuple[Word, ...] = Field(default=(), max_length=64, fail_fast=True)
    ending_match: Literal["text", "token"] = "text"

    @model_validator(mode="after")
    def _check_endings(self) -> Previous:
        if "ending_match" in self.model_fields_set and not self.endings:
            raise ValueError("`ending_match` is about `endings`, and none are given")
        return self

    def _any_named(self) -> bool:
        return bool(self.endings) or super()._any_named()


class When(Strict):
    """Conditions on a position. All that are set must hold; with none, the rule fires everywhere.

    Entropies are of the distribution at temperature 1, before the request's sampling parameters; with `at_temperature`,
    the entropies, varentropy and likeliest probability that this condition bounds are of the distribution at that one.
    `probe_confidence_above` holds from where the policy's probe, with `measure_only`, found the model surer than that
    of its answer, until the next probe. The effective rank is that of the last layer's hidden states at the last
    `rank_window` tokens, measured every `rank_stride` tokens and valid until the next time. A readout is a
    number that is computed from the last layer's state.
    """

    entropy_above: Nats | Literal["fork"] | None = None
    entropy_below: Nats | Literal["fork"] | None = None
    varentropy_above: SquareNats | None = None
    varentropy_below: SquareNats | None = None
    top_probability_above: Probability | None = None
    top_probability_below: Probability | None = None
    entropy_quantile_above: Probability | None = None
    at_temperature: Annotated[Number, Field(gt=0, le=100)] | None = None
    mean_entropy_below: Nats | None = None
    mean_entropy_window: Annotated[int, Field(ge=1, le=MAX_WINDOW, strict=True)] = 64
    confidence_below: Nats | None = None
    confidence_window: Annotated[int, Field(ge=1, le=MAX_WINDOW, strict=True)] = MAX_WINDOW
    effective_rank_above: Rank | None = None
    effective_rank_below: Rank | None = None
    effective_rank_velocity_above: RankChange | None = None
    effective_rank_velocity_below: RankChange | None = None
    effective_rank_acceleration_above: RankChange | None = None
    effective_rank_acceleration_below: RankChange | None = None
    rank_window: Annotated[int, Field(ge=2, le=MAX_RANK_WINDOW, strict=True)] = 64
    rank_stride: Annotated[int, Field(ge=1, le=MAX_RANK_WINDOW, strict=True)] = 16
    readout_above: ReadoutBound | None = None
    readout_below: ReadoutBound | None = None
    connectors: tuple[Word, ...] = Field(default=(), max_length=32, fail_fast=True)
    words: tuple[Word, ...] = Field(default=(), max_length=256, fail_fast=True)
    match: WordMatch = "any_case"
    connector_probability_above: Probability | None = None
    connector_likeliest: Literal[True] | None = None
    since_connector_below: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    previous: Previous | None = None
    end_of_reasoning_within: Nats | None = None
    end_of_reasoning_rank_below: Annotated[int, Field(ge=2, le=1_000_000, strict=True)] | None = None
    probe_confidence_above: Probability | None = None
    region: Region = "any"
    after_token: Place | None = None
    before_token: Place | None = None
    every: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    probability: Chance = 1.0
    at_most: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> When:
        check_families(self.connectors)
        check_words(self.words)
        check_word_match(self)
        named = bool(self.connectors or self.words)
        if self.connector_probability_above is not None and not named:
            raise ValueError("connector_probability_above needs `connectors` or `words`, whose probability is summed")
        if self.connector_likeliest and not named:
            raise ValueError("connector_likeliest needs `connectors` or `words`, one of which is the likeliest token")
        if named and all(getattr(self, name) is None for name in OF_CONNECTORS):
            raise ValueError(
                f"`connectors` and `words` say nothing alone; add {', '.join(OF_CONNECTORS[:-1])} or "
                f"{OF_CONNECTORS[-1]}, or put them into `previous`"
            )
        if "mean_entropy_window" in self.model_fields_set and self.mean_entropy_below is None:
            raise ValueError("mean_entropy_window says nothing alone; add mean_entropy_below")
        if self.at_temperature is not None and all(getattr(self, bound) is None for bound in AT_TEMPERATURE):
            raise ValueError(f"at_temperature says nothing alone; add one of {', '.join(AT_TEMPERATURE)}")
        if "confidence_window" in self.model_fields_set and self.confidence_below is None:
            raise ValueError("confidence_window says nothing alone; add confidence_below")
        for option in ("rank_window", "rank_stride"):
            if option in self.model_fields_set and not self.reads_rank:
                raise ValueError(f"{option} says nothing alone; add one of {', '.join(RANK_BOUNDS)}")
        if isinstance(self.probability, Schedule):
            low, high = self.probability.range()
            if low < 0 or high > 1:
                raise ValueError(f"a probability lies between 0 and 1; this schedule goes from {low:g} to {high:g}")
        self._check_order("entropy_above", "entropy_below")
        self._check_order("varentropy_above", "varentropy_below")
        self._check_order("top_probability_above", "top_probability_below")
        for above, below in zip(RANK_BOUNDS[::2], RANK_BOUNDS[1::2], strict=True):
            self._check_order(above, below)
        over, under = self.readout_above, self.readout_below
        if over is not None and under is not None and over.name == under.name and over.value >= under.value:
            raise ValueError(
                f"no position has readout_above {over.value:g} and readout_below {under.value:g}; the first must be "
                "the smaller one"
            )
        first, end = self.after_token, self.before_token
        if isinstance(first, int) and isinstance(end, int) and first >= end:
            raise ValueError(f"no position is both after_token {first} and before_token {end}")
        return self

    @property
    def reads_rank(self) -> bool:
        """Whether the condition depends on the effective rank of the hidden states."""
        return any(getattr(self, bound) is not None for bound in RANK_BOUNDS)

    @property
    def readouts(self) -> tuple[str, ...]:
        """The names of the readouts that the condition depends on."""
        return tuple(bound.name for bound in (self.readout_above, self.readout_below) if bound is not None)

    @property
    def of_model(self) -> tuple[str, ...]:
        """The fields that are set and depend on what the model computes at the position."""
        named = (name for name in type(self).model_fields if name not in (*OF_TEXT, *_OPTIONS))
        return tuple(name for name in named if getattr(self, name) is not None)

    @property
    def windows(self) -> dict[str, int]:
        """The windows, in tokens, that must be full before the condition can hold, by their fields."""
        bounds = {"confidence_window": self.confidence_below, "mean_entropy_window": self.mean_entropy_below}
        found = {name: getattr(self, name) for name, bound in bounds.items() if bound is not None}
        return found | ({"rank_window": self.rank_window} if self.reads_rank else {})

    def _check_order(self, above: str, below: str) -> None:
        low, high = getattr(self, above), getattr(self, below)
        if low is None or high is None:
            return
        if low == high or (isinstance(low, float) and isinstance(high, float) and low >= high):
            raise ValueError(f"no position has {above} {low} and {below} {high}; the first must be the smaller one")
