"""The actions that run several engine requests: branch, probe, sample, resume."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from .actions import MAX_TEXT
from .answer_extractors import extractor
from .fields import (
    MAX_BRANCHES,
    MAX_WINDOW,
    OBJECT,
    VALUE,
    WHICH,
    Number,
    Probability,
    Share,
    SquareNats,
    Strict,
    Word,
    check_families,
)

Select = Literal["all", "majority", "likelihood", "confidence", "margin", "first"]


class OfFamilies(Strict):
    """The likeliest tokens that are a connector of these families."""

    connectors: tuple[Word, ...] = Field(min_length=1, max_length=32, fail_fast=True)

    @model_validator(mode="after")
    def _check(self) -> OfFamilies:
        check_families(self.connectors)
        return self


Extract = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Answers = Annotated[int, Field(ge=1, le=MAX_BRANCHES, strict=True)]


def _check_extract(name: str) -> str:
    extractor(name)
    return name


Extracted = Annotated[Extract, AfterValidator(_check_extract)]
"""The name of the extractor whose results are compared."""


class Branch(Strict):
    """Start further answers here: each continues the tokens before this one with another token instead.

    The request becomes a tree. `width` is the number of other tokens tried at a fork, `min_gap` the smallest number of
    tokens between two forks of one path, `depth` the largest number of forks on a path, and `max_branches` the largest
    number of answers; by default, the number of choices that the request has. `alternatives` selects the other tokens:
    the likeliest, tokens sampled from the distribution, or the likeliest connectors of some families. When the tree's
    answers have `budget_tokens` tokens, with shared tokens counted once, no further branch starts and running branches
    end; the trunk continues.

    `select` says what is returned: every answer, or one. `extract` names what `majority` and `confidence` compare, and
    `decided_at` is the share of the votes at which the other answers are stopped. By default, and with `fill` `sample`,
    answers sampled from the prompt make up the number of choices that the tree did not reach.
    """

    width: Answers = 1
    max_branches: Answers | None = None
    min_gap: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    depth: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 1_000
    alternatives: Annotated[
        Annotated[Literal["likeliest", "sampled"], VALUE] | Annotated[OfFamilies, OBJECT], WHICH
    ] = "likeliest"
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] | None = None
    select: Select = "all"
    extract: Extracted = "last_number"
    decided_at: Share | None = None
    fill: Literal["none", "sample"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Branch:
        if self.select not in ("majority", "confidence"):
            for name in {"extract", "decided_at"} & self.model_fields_set:
                raise ValueError(f"{name} says nothing with select {self.select!r}; it is for majority and confidence")
        if self.fill == "sample" and self.select != "all":
            raise ValueError(
                f"fill says nothing with select {self.select!r}: only with `all` does a request set how many answers"
            )
        return self

    @property
    def fills(self) -> bool:
        """Whether the request gets all its choices, sampled ones in place of branches that never started."""
        return self.select == "all" and self.fill != "none"


class Probe(Strict):
    """Generate, in a separate request, the answer that the model would give now: as if the reasoning ended here,
    followed by `text`.

    The probe is `tokens` tokens long and greedy. The reasoning ends here if the one criterion that is set holds: the
    mean probability of the probe's tokens is above `probability_above`; the exponential moving variance of the
    entropies at the starts of the probes, with `smoothing`, is below `variance_below` (nats²); or the last `agreement`
    probes `extract` the same answer. At least `fewest` probes are made first.
    """

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)] = ""
    tokens: Annotated[int, Field(ge=1, le=256, strict=True)] = 20
    fewest: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    probability_above: Probability | None = None
    variance_below: SquareNats | None = None
    smoothing: Share = 0.2
    agreement: Annotated[int, Field(ge=2, le=1000, strict=True)] | None = None
    extract: Extracted = "text"

    @model_validator(mode="after")
    def _check(self) -> Probe:
        ways = ("probability_above", "variance_below", "agreement")
        if sum(getattr(self, way) is not None for way in ways) != 1:
            raise ValueError(f"must hold exactly one of {', '.join(ways)}: it says when the reasoning ends")
        for name, way in (("extract", "agreement"), ("smoothing", "variance_below")):
            if name in self.model_fields_set and getattr(self, way) is None:
                raise ValueError(f"{name} says nothing without {way}")
        return self


class Sample(Strict):
    """Generate independent answers and let them vote; `select` says what a vote weighs.

    `confidence` (DeepConf): the answer's lowest group confidence, a mean over `window` tokens. The first `warm_up`
    answers set a threshold, which the best `keep_percent` of them reach; a later answer is stopped when its confidence
    falls below it. All are stopped when the votes for one answer reach the share `decided_at`, .95 by default.

    `majority`: all votes are equal. The answers that still run are stopped once they cannot change the majority, or at
    `decided_at`. With `posterior_at`, answers are sampled `at_a_time`, and no further ones once the answer that leads
    is the majority's with this posterior probability: against the second alone (`beta`) or against each other answer
    (`dirichlet`). With `unanimous`, they are sampled in windows of so many, until those of one window agree. With
    `first`, all start at once, and the first so many whose reasoning (or whole text, by `first_by`) ends have a vote;
    ties go to the one with the shortest reasoning.

    `self-certainty`: answers are ranked by the mean divergence of their distributions from the uniform one; of n, the
    one at rank r, from 1, has (n + 1 - r) ^ `power` votes.
    """

    answers: Answers = 32
    select: Literal["confidence", "majority", "self-certainty"] = "confidence"
    warm_up: Answers = 16
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW, strict=True)] = MAX_WINDOW
    keep_percent: Annotated[Number, Field(gt=0, le=100)] = 10.0
    decided_at: Share | None = 0.95
    posterior_at: Share | None = None
    posterior: Literal["beta", "dirichlet"] = "beta"
    at_a_time: Answers = 1
    unanimous: Answers | None = None
    first: Answers | None = None
    first_by: Literal["reasoning", "text"] = "reasoning"
    power: Annotated[Number, Field(ge=0, le=100)] = 0.5
    extract: Extracted = "last_number"

    @field_validator("unanimous", "first")
    @classmethod
    def _check_number(cls, number: int | None, info: ValidationInfo) -> int | None:
        answers = info.data.get("answers")
        if number is not None and answers is not None and number > answers:
            raise ValueError(f"is {number}, more than the {answers} `answers` that are sampled; at most {answers}")
        return number

    @model_validator(mode="after")
    def _check(self) -> Sample:
        needs = {
            **dict.fromkeys(("warm_up", "window", "keep_percent"), "confidence"),
            **dict.fromkeys(("posterior_at", "unanimous", "first"), "majority"),
            "power": "self-certainty",
        }
        for name in sorted(self.model_fields_set):
            if needs.get(name, self.select) != self.select:
                raise ValueError(f"{name} says nothing with select {self.select!r}; it is for {needs[name]}")
        stops = [name for name in ("posterior_at", "unanimous", "first") if getattr(self, name) is not None]
        if self.select == "majority" and "decided_at" in self.model_fields_set and self.decided_at is not None:
            stops.append("decided_at")
        if len(stops) > 1:
            raise ValueError(f"{' and '.join(stops)} both say when to stop; keep one of them")
        if self.select == "self-certainty" and "decided_at" in self.model_fields_set:
            raise ValueError("decided_at says nothing with select 'self-certainty': all answers are ranked")
        for name, way in (("posterior", "posterior_at"), ("at_a_time", "posterior_at"), ("first_by", "first")):
            if name in self.model_fields_set and getattr(self, way) is None:
                raise ValueError(f"{name} says nothing without {way}")
        return self

    @property
    def deciding_share(self) -> float | None:
        """The share of the votes at which the other answers are stopped, if there is one."""
        by_default = self.select == "confidence" or "decided_at" in self.model_fields_set
        return self.decided_at if by_default else None


class Resume(Strict):
    """When the answer is complete, continue with this text instead of ending, and repeat until the answers have
    `budget_tokens`."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)] = "Wait"
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] = 4096


TreeAction = Branch | Probe | Sample | Resume
"""The actions that run several engine requests."""


def returns_several(action: TreeAction) -> bool:
    """Whether the request's choices are all answers of its tree, rather than one selected answer."""
    return isinstance(action, Branch) and action.select == "all"


def max_answers(action: TreeAction, choices: int, most: int) -> int:
    """The largest number of answers of the tree of a request with `choices` choices, which may have at most `most`."""
    answers = min(choices, most) if returns_several(action) else most
    return min(answers, action.max_branches or answers) if isinstance(action, Branch) else answers
