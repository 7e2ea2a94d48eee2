"""The actions that run several engine requests: branch, probe, sample, resume."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from .actions import MAX_TEXT, AroundMarker
from .answer_extractors import extractor
from .fields import (
    MAX_BRANCHES,
    MAX_WINDOW,
    OBJECT,
    VALUE,
    WHICH,
    Nats,
    Number,
    Probability,
    Share,
    SquareNats,
    Strict,
    Word,
    check_families,
)

MAX_ALTERNATIVES = 20
"""How many of the likeliest tokens are known where a rule branches."""

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
Length = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]


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

    With `top_entropy_above`, it branches only where the entropy of the `top_entropy_of` likeliest tokens, renormalised,
    is above this too; it is never more than the entropy of the whole distribution, which `when` compares.

    `select` says what is returned: every answer, or one. `extract` names what votes compare: those of `majority`, of
    `confidence`, of `margin` (weighted by how far the likeliest token leads the second where the answer is written)
    and, where the `first` so many to end on their own vote, of `first`. `decided_at` is the share of the votes at which
    the other answers are stopped. By default, and with `fill` `sample`, answers sampled from the prompt make up the
    number of choices that the tree did not reach.
    """

    width: Answers = 1
    max_branches: Answers | None = None
    min_gap: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    depth: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 1_000
    alternatives: Annotated[
        Annotated[Literal["likeliest", "sampled"], VALUE] | Annotated[OfFamilies, OBJECT], WHICH
    ] = "likeliest"
    top_entropy_above: Nats | None = None
    top_entropy_of: Annotated[int, Field(ge=2, le=MAX_ALTERNATIVES, strict=True)] = MAX_ALTERNATIVES
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] | None = None
    select: Select = "all"
    first: Answers = 1
    extract: Extracted = "last_number"
    decided_at: Share | None = None
    fill: Literal["none", "sample"] | None = None

    @field_validator("first")
    @classmethod
    def _check_first(cls, first: int, info: ValidationInfo) -> int:
        most = info.data.get("max_branches")
        if most is not None and first > most:
            raise ValueError(f"is {first}, more than the {most} answers of `max_branches`; at most {most}")
        return first

    @model_validator(mode="after")
    def _check(self) -> Branch:
        votes = self.select in ("majority", "confidence")
        if "decided_at" in self.model_fields_set and not votes:
            raise ValueError(f"decided_at says nothing with select {self.select!r}; it is for majority and confidence")
        if "first" in self.model_fields_set and self.select != "first":
            raise ValueError(f"first says nothing with select {self.select!r}; it is for select 'first'")
        if "extract" in self.model_fields_set and not votes and self.select not in ("margin", "first"):
            raise ValueError(
                f"extract says nothing with select {self.select!r}; it is for majority, confidence, margin and first"
            )
        if "top_entropy_of" in self.model_fields_set and self.top_entropy_above is None:
            raise ValueError("top_entropy_of says nothing without top_entropy_above")
        if self.fill == "sample" and self.select != "all":
            raise ValueError(
                f"fill says nothing with select {self.select!r}: only with `all` does a request set how many answers"
            )
        return self

    @property
    def fills(self) -> bool:
        """Whether the request gets all its choices, sampled ones in place of branches that never started."""
        return self.select == "all" and self.fill != "none"


class AnswerSpan(Strict):
    """The tokens of a trial answer over which its confidence is a mean, and which mean.

    The first `skip` tokens are left out. With `until` `closing_brace`, so are those after the brace that closes the
    first one that is open. `mean` is that of the tokens' probabilities, `arithmetic` or `geometric`; or `entropy`: 1
    less their mean entropy as a share of the largest possible one. With `needs_end`, an answer that the model does not
    itself follow with the end of the reasoning has confidence 0.
    """

    skip: Annotated[int, Field(ge=0, le=255, strict=True)] = 0
    until: Literal["end", "closing_brace"] = "end"
    mean: Literal["arithmetic", "geometric", "entropy"] = "arithmetic"
    needs_end: Annotated[bool, Field(strict=True)] = False


class EndText(Strict):
    """What a probe writes where it ends the reasoning: the end marker between two texts.

    In `after`, `{answer}` stands for what `extract` finds in the last trial answer. With `stop`, the text ends there.
    """

    before: AroundMarker = ""
    after: AroundMarker = ""
    stop: Annotated[bool, Field(strict=True)] = False


Stops = Annotated[tuple[Word, ...], Field(max_length=16, fail_fast=True)]
Criterion = Literal[
    "probability_above", "variance_below", "agreement", "end_of_reasoning_within", "end_of_reasoning_ranks",
    "step_entropy_bits_at_most",
]  # fmt: skip
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
MAX_RANKS = 8
TopBits = Annotated[Number, Field(ge=0, le=4.33)]
"""An entropy of MAX_ALTERNATIVES tokens: at most log2(20) = 4.322 bits."""
Ranks = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1_000_000, strict=True)], ...], Field(min_length=1, max_length=16)
]
WITHOUT_TRIALS = ("end_of_reasoning_ranks", "step_entropy_bits_at_most")
"""The criteria that need no trial answers."""
_BESIDE_THEM = frozenset({"sentences", "drop", "end_reasoning", "exit_after_tokens"})

ANSWER = "{answer}"


class Probe(Strict):
    """Generate, in a separate request, the answer that the model would give now; end the reasoning if it is settled.

    Where the rule fires, the trial answer follows the tokens so far. With `place` `answer` it comes after the end of
    the reasoning, which stands between the texts `before` and `text`; with `reasoning` it comes after `text`, still in
    the reasoning. `drop` says what is left out of the tokens so far: the word or ending of `when.previous` at which the
    rule fired (`previous`), the white space at their end (`space`), or `nothing`; by default a word is, and an ending
    is not. With `sentences`, the rule fires only at the end of a sentence: after ".", "?" or "!" before white space.

    The trial answer is up to `tokens` tokens long, ends at the first of the `stop` strings, and has a `temperature`
    (0: greedy), `top_p` and `presence_penalty` of its own.

    The reasoning ends at the first position at which the one criterion that is set holds, and at which at least
    `fewest` trial answers were made:
    - `probability_above`: the mean probability of the trial answer's tokens, or of its `span`, is above it;
    - `variance_below`: the exponential moving variance, with `smoothing`, of the entropies at the first tokens of the
      trial answers is below it (nats²);
    - `agreement`: the last so many trial answers `extract` the same, and none of them has one of the words `rejects`,
      as a part of any word and in any case;
    - `end_of_reasoning_within`: the end of the reasoning, in place of the trial answer's first token, is at most so
      many nats less likely than the likeliest next token where the rule fired;
    - `end_of_reasoning_ranks`: one of the lists holds: the rank of the end of the reasoning among the next tokens (1:
      the likeliest) where the rule fired is at most the first number, where it fired before that at most the second,
      and so on. No trial answers are generated;
    - `step_entropy_bits_at_most`: the mean entropy of the step is at most this: of the tokens from where the rule fired
      before, or from the beginning, to where it fires, each of the distribution of its 20 likeliest tokens,
      renormalised, in bits. White space alone is no step. No trial answers are generated.

    `end_reasoning` is what is written there: by default what the trial answer followed. With `exit_after_tokens`, the
    reasoning goes on for so many tokens before. With `measure_only` it never ends here: the confidence of the trial
    answer is for rules with `probe_confidence_above`; with `in_proportion`, these act after a confidence C above the
    bound B with probability (C - B) / (1 - B), drawn at each probe.
    """

    text: AroundMarker = ""
    before: AroundMarker = ""
    place: Literal["answer", "reasoning"] = "answer"
    drop: Literal["previous", "space", "nothing"] | None = None
    sentences: Annotated[bool, Field(strict=True)] = False
    tokens: Annotated[int, Field(ge=1, le=256, strict=True)] = 20
    stop: Stops = ()
    temperature: Annotated[Number, Field(ge=0, le=10)] = 0.0
    top_p: Share = 1.0
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] = 0.0
    fewest: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    probability_above: Probability | None = None
    variance_below: SquareNats | None = None
    smoothing: Share = 0.2
    agreement: Annotated[int, Field(ge=2, le=1000, strict=True)] | None = None
    end_of_reasoning_within: Nats | None = None
    end_of_reasoning_ranks: Annotated[tuple[Ranks, ...], Field(min_length=1, max_length=8)] | None = None
    step_entropy_bits_at_most: TopBits | None = None
    extract: Extracted = "text"
    rejects: Stops = ()
    span: AnswerSpan | None = None
    exit_after_tokens: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0
    end_reasoning: EndText | None = None
    measure_only: Annotated[bool, Field(strict=True)] = False
    in_proportion: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _check(self) -> Probe:
        ways = [way for way in CRITERIA if getattr(self, way) is not None]
        if self.measure_only and ways:
            raise ValueError(f"{ways[0]} says nothing with measure_only, with which no trial answer ends the reasoning")
        if self.in_proportion and not self.measure_only:
            raise ValueError("in_proportion says nothing without measure_only")
        if not self.measure_only and len(ways) != 1:
            raise ValueError(f"must hold exactly one of {', '.join(CRITERIA)}: it says when the reasoning ends")
        if not self.has_trials:
            if other := sorted(self.model_fields_set - _BESIDE_THEM - set(ways)):
                raise ValueError(f"{other[0]} says nothing with {ways[0]}, which needs no trial answers")
            if len(self.ranks) > MAX_RANKS:
                raise ValueError(
                    f"end_of_reasoning_ranks has {len(self.ranks)} different ranks; at most {MAX_RANKS} are told apart"
                )
        needs = {"extract": "agreement", "rejects": "agreement", "smoothing": "variance_below"}
        for name, way in needs.items():
            if name in self.model_fields_set and getattr(self, way) is None:
                raise ValueError(f"{name} says nothing without {way}")
        if self.span is not None and self.probability_above is None and not self.measure_only:
            raise ValueError("span says nothing without probability_above")
        if self.span is not None and self.span.skip >= self.tokens:
            raise ValueError(f"span.skip leaves none of the {self.tokens} tokens of a trial answer; lower it")
        if self.place == "reasoning" and self.before:
            raise ValueError("before says nothing with place 'reasoning', where no end marker is written; use text")
        if self.place == "answer" and self.end_of_reasoning_within is not None:
            raise ValueError(
                "end_of_reasoning_within needs place 'reasoning': after the marker, no further one follows"
            )
        if self.end_reasoning is not None and ANSWER in self.end_reasoning.after and self.agreement is None:
            raise ValueError(f"end_reasoning.after: {ANSWER} needs agreement, which says what the answer is")
        return self

    @property
    def has_trials(self) -> bool:
        """Whether it generates trial answers."""
        return all(getattr(self, way) is None for way in WITHOUT_TRIALS)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks of `end_of_reasoning_ranks`, the smallest first."""
        return tuple(sorted({rank for ranks in self.end_of_reasoning_ranks or () for rank in ranks}))

    @property
    def needed(self) -> int:
        """The fewest trial answers after which the reasoning can end."""
        return max(self.fewest, self.agreement or 1, 2 if self.variance_below is not None else 1)


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


class Final(Strict):
    """What is written at last, after all continuations, and how many of the likeliest tokens follow."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    tokens: Annotated[int, Field(ge=1, le=1000, strict=True)] = 16


class Resume(Strict):
    """When the answer is complete, continue with this text instead of ending.

    It repeats until the answers have `budget_tokens`. Or, with `tokens`, each continuation has at most so many, there
    are at most `times`, and an answer that is cut at `base_tokens`, or at the tokens of a continuation, is continued as
    one that has ended. At last `final` is written, and completed with the likeliest tokens.
    """

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)] = "Wait"
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] = 4096
    base_tokens: Length | None = None
    tokens: Length | None = None
    times: Annotated[int, Field(ge=1, le=MAX_BRANCHES, strict=True)] = 1
    final: Final | None = None

    @model_validator(mode="after")
    def _check(self) -> Resume:
        if self.tokens is not None and "budget_tokens" in self.model_fields_set:
            raise ValueError("budget_tokens and tokens both say how long it goes on; keep one of them")
        for name in ("base_tokens", "times", "final"):
            if name in self.model_fields_set and self.tokens is None:
                raise ValueError(f"{name} says nothing without tokens, those of each continuation")
        return self


TreeAction = Branch | Probe | Sample | Resume
"""The actions that run several engine requests."""


def extract_of(action: TreeAction) -> str:
    """The extractor of what the answers of a tree say: for its vote, and for the trace."""
    return "last_line" if isinstance(action, Resume) else action.extract


def returns_several(action: TreeAction) -> bool:
    """Whether the request's choices are all answers of its tree, rather than one selected answer."""
    return isinstance(action, Branch) and action.select == "all"


def max_answers(action: TreeAction, choices: int, most: int) -> int:
    """The largest number of answers of the tree of a request with `choices` choices, which may have at most `most`."""
    answers = min(choices, most) if returns_several(action) else most
    return min(answers, action.max_branches or answers) if isinstance(action, Branch) else answers
