"""The policy language: what a user writes, its wire format and its JSON Schema. Data only; no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from .answer_extractors import extractor
from .connectors import FAMILIES
from .size_limits import MOST_LISTED, ExtentError, check_extent

DEFAULT_FORK_THRESHOLD_NATS = 0.672
"""The 80th percentile of Qwen3-8B's token entropies on one task (arXiv:2506.01939); what uncalibrated models get."""

MOST_RULES = 16
MOST_TOKENS = MOST_LISTED
MOST_WINDOW = 2048
MOST_BRANCHES = 256
MOST_NAME = 64

Region = Literal["reasoning", "answer", "any"]
Match = Literal["probability", "count", "frequency", "positions"]
Select = Literal["all", "majority", "likelihood", "confidence", "margin", "first"]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Nats = Annotated[Number, Field(ge=0, le=50)]
SquareNats = Annotated[Number, Field(ge=0, le=1000)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Position = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MOST_NAME - 1}}}", re.ASCII)
Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME.pattern}$")]


SCHEMA = Path(__file__).parent / "policy.schema.json"
"""The language as a JSON Schema, as it is served and shipped."""


def is_name(text: str) -> bool:
    """Whether policies, experiments and arms can have this name."""
    return _NAME.fullmatch(text) is not None


class PolicyError(ValueError):
    """A policy that cannot be used; `field` is the path of what is wrong, as in `policy.rules[0].do`."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def exactly_one(part: BaseModel, what: str) -> None:
    """Raise ValueError unless exactly one field is given."""
    given = sorted(part.model_fields_set)
    if len(given) != 1 or getattr(part, given[0]) is None:
        raise ValueError(f"{what} {', '.join(type(part).model_fields)}; it holds {', '.join(given) or 'none'}")


def check_words(words: Iterable[str]) -> None:
    """Raise ValueError for a word that nothing can be seen of."""
    for word in words:
        if not word.strip():
            raise ValueError(f"the word {word!r} is blank; a word has at least one visible character")


def check_families(names: Iterable[str]) -> None:
    """Raise ValueError when a connector family does not exist."""
    for name in names:
        if name not in FAMILIES:
            raise ValueError(f"there is no connector family {name!r}; there are {', '.join(FAMILIES)}")


class Strict(BaseModel):
    """Every part of a policy: unknown fields are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Strict):
    """A number that depends on the position in the generated text.

    `linear` goes from `start` at position 0 to `end` at position `over` and stays there. `triangular` is a wave that begins at 0,
    rises to `amplitude` at a quarter of its `period`, falls to -`amplitude` at three quarters, and comes back to 0.
    """

    shape: Literal["linear", "triangular"]
    start: Annotated[Number, Field(ge=-1000, le=1000)] | None = None
    end: Annotated[Number, Field(ge=-1000, le=1000)] | None = None
    over: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    amplitude: Annotated[Number, Field(gt=0, le=1000)] | None = None
    period: Annotated[int, Field(ge=4, le=10_000_000, strict=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        needed = {"linear": ("start", "end", "over"), "triangular": ("amplitude", "period")}[self.shape]
        given = self.model_fields_set - {"shape"}
        if given != set(needed):
            raise ValueError(f"a {self.shape} schedule is given by {', '.join(needed)}, all of them and nothing else")
        return self

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that it takes."""
        if self.shape == "triangular":
            height = self.amplitude or 0.0
            return -height, height
        ends = self.start or 0.0, self.end or 0.0
        return min(ends), max(ends)


class EntropyTemperature(Strict):
    """The temperature's factor as a function of the entropy H in nats: scale · base ^ (exponent / H), as in EDT (arXiv:2403.14541).

    Below LOWEST_TEMPERATURE it takes the likeliest token, all but surely.
    """

    scale: Annotated[Number, Field(gt=0, le=100)] = 1.0
    base: Annotated[Number, Field(gt=0, le=1)]
    exponent: Annotated[Number, Field(gt=0, le=100)]


def _is_object(value: Any) -> str:
    return "object" if isinstance(value, dict | BaseModel) else "value"


_VALUE, _OBJECT, _WHICH = Tag("value"), Tag("object"), Discriminator(_is_object)
"""A plain value or an object: the errors are then those of the one that was meant."""

Fall = Annotated[Annotated[Number, Field(lt=0, ge=-1000), _VALUE] | Annotated[Schedule, _OBJECT], _WHICH]
Rise = Annotated[Annotated[Number, Field(gt=0, le=1000), _VALUE] | Annotated[Schedule, _OBJECT], _WHICH]
Heat = Annotated[Annotated[Number, Field(ge=0, le=100), _VALUE] | Annotated[EntropyTemperature, _OBJECT], _WHICH]
Chance = Annotated[Annotated[Probability, _VALUE] | Annotated[Schedule, _OBJECT], _WHICH]


class Tokens(Strict):
    """A set of tokens, named by connector family, by whole words in every spelling, or by token id."""

    connectors: tuple[Word, ...] = Field(default=(), max_length=32)
    words: tuple[Word, ...] = Field(default=(), max_length=256)
    token_ids: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(default=(), max_length=MOST_TOKENS)

    @model_validator(mode="after")
    def _check(self) -> Tokens:
        if not self._any_named():
            *some, last = _listed(type(self))
            raise ValueError(f"names no token; give a non-empty list of {', '.join(some)} or {last}")
        check_families(self.connectors)
        check_words(self.words)
        return self

    def _any_named(self) -> bool:
        return bool(self.connectors or self.words or self.token_ids)


def _listed(part: type[BaseModel]) -> list[str]:
    return [name for name, field in part.model_fields.items() if field.default == ()]


class Previous(Tokens):
    """What the generated text ends with: a word or token of a set, or one of the `endings`, such as a line break or a full stop."""

    endings: tuple[Word, ...] = Field(default=(), max_length=64)

    def _any_named(self) -> bool:
        return bool(self.endings) or super()._any_named()


class Suppress(Tokens):
    """Lower the logits of these tokens by a bias, or, without one, never draw them."""

    bias: Fall | None = None

    @model_validator(mode="after")
    def _check_bias(self) -> Suppress:
        if isinstance(self.bias, Schedule) and self.bias.range()[1] > 0:
            raise ValueError("a bias that suppresses is never above 0; write amplify for one that swings to both sides")
        return self


class Amplify(Tokens):
    """Raise the logits of these tokens by a bias."""

    bias: Rise

    @model_validator(mode="after")
    def _check_bias(self) -> Amplify:
        if isinstance(self.bias, Schedule) and self.bias.shape == "linear" and self.bias.range()[0] < 0:
            raise ValueError("a linear bias that amplifies is never below 0; write suppress for one that lowers")
        return self


class Truncate(Strict):
    """Keep the likeliest tokens only; exactly one way of saying how many.

    `top_h` keeps tokens, in order of probability and at most TOP_H_TOKENS, while the entropy of what is kept is at most this
    share of the whole entropy (Top-H decoding).
    """

    top_k: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    min_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_h: Annotated[Number, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Truncate:
        exactly_one(self, "must hold exactly one of")
        return self

    @property
    def kind(self) -> str:
        """Which of the ways is given."""
        return next(iter(self.model_fields_set))


class OfFamilies(Strict):
    """The likeliest tokens that are a connector of these families."""

    connectors: tuple[Word, ...] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _check(self) -> OfFamilies:
        check_families(self.connectors)
        return self


Instead = Annotated[Annotated[Literal["end_of_reasoning"], _VALUE] | Annotated[Tokens, _OBJECT], _WHICH]


MOST_TEXT = 256


class Force(Strict):
    """Write this text, token by token; with `instead_of`, only where one of those tokens would have been drawn."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)]
    instead_of: Instead | None = None


class EndReasoning(Strict):
    """End the reasoning here; with `instead_of`, only where one of those tokens would have been drawn."""

    instead_of: Tokens | None = None


class Stop(Strict):
    """End the generated text here; with `instead_of`, only where one of those tokens would have been drawn."""

    instead_of: Tokens | None = None


class Control(Strict):
    """The matched placebo of another rule: acts as often and as strongly, on tokens or positions drawn at random.

    `probability`: where the rule would act, the same probability is taken from (or given to) other tokens. `count`: as many
    tokens, drawn from the vocabulary. `frequency`: tokens that are together as frequent in the model's own text. `positions`: the
    same action on the same share of positions. All are drawn from the request's seed.
    """

    like: Rule
    match: Match


Share = Annotated[Number, Field(gt=0, le=1)]
Extract = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Answers = Annotated[int, Field(ge=1, le=MOST_BRANCHES, strict=True)]


def _check_extract(name: str) -> str:
    extractor(name)
    return name


Extracted = Annotated[Extract, AfterValidator(_check_extract)]
"""What of two answers is compared: the name of an extractor."""


class Branch(Strict):
    """Begin further answers here: from the tokens before this one, with another token in its place.

    A request grows a tree. `width` is how many other tokens are tried at a fork, `min_gap` the fewest tokens between two forks of
    one path, `depth` the most forks on a path, and `max_branches` the most answers in all; without it as many as the request has
    choices. `alternatives` are the likeliest of the other tokens, ones drawn from the distribution, or the likeliest connectors of
    some families. Once the tree's answers have `budget_tokens` tokens, each shared one counted once, no branch begins and those
    that run end; the trunk goes on.

    `select` says what is returned: every answer, or one; `extract` names what is compared in `majority` and `confidence`, and
    `decided_at` the share of the votes with which the others are stopped. With `fill`, what the tree lacks of the request's choices
    is sampled from the beginning.
    """

    width: Answers = 1
    max_branches: Answers | None = None
    min_gap: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    depth: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 1_000
    alternatives: Annotated[Annotated[Literal["likeliest", "sampled"], _VALUE] | Annotated[OfFamilies, _OBJECT], _WHICH] = (
        "likeliest"
    )
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] | None = None
    select: Select = "all"
    extract: Extracted = "last_number"
    decided_at: Share | None = None
    fill: Literal["none", "sample"] = "none"

    @model_validator(mode="after")
    def _check(self) -> Branch:
        if self.select not in ("majority", "confidence"):
            for name in {"extract", "decided_at"} & self.model_fields_set:
                raise ValueError(f"{name} says nothing with select {self.select!r}; it is for majority and confidence")
        if self.fill == "sample" and self.select != "all":
            raise ValueError(f"fill says nothing with select {self.select!r}: only with `all` is a number of answers asked for")
        return self


class Probe(Strict):
    """Try out, beside the request, what it would answer now: as if the reasoning ended here and `text` came after it.

    The `tokens` likeliest tokens of such an answer are generated. The reasoning ends here, as it did for the probe, when the one of
    these that is given says so: their mean probability is above `probability_above`; the exponential moving variance of the
    entropies at which the probes begin, by `smoothing`, is below `variance_below` (nats²); or the last `agreement` probes
    `extract` the same. Not before the `fewest` probes were made.
    """

    text: Annotated[str, StringConstraints(max_length=MOST_TEXT)] = ""
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
    """Generate several independent answers and let them vote, each with the weight of its lowest group confidence.

    The first `warm_up` set a threshold: the lowest group confidences (over `window` tokens) of the best `keep_percent` of them
    reach it. An answer of the others is stopped when its confidence falls below, and all are once the votes for one answer have the
    share `decided_at`.
    """

    answers: Answers = 32
    warm_up: Answers = 16
    window: Annotated[int, Field(ge=1, le=MOST_WINDOW, strict=True)] = MOST_WINDOW
    keep_percent: Annotated[Number, Field(gt=0, le=100)] = 10.0
    decided_at: Share | None = 0.95
    extract: Extracted = "last_number"


class Resume(Strict):
    """When the answer is there, go on with this text in place of its end, and so again until the answers have `budget_tokens`."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] = "Wait"
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] = 4096


Growing = Branch | Probe | Sample | Resume
"""The actions that take more requests of the engine than one."""


class Observe(Strict):
    """Mark the position and change nothing."""


class When(Strict):
    """Conditions on a position; all that are given must hold, and none means always.

    Entropies are of the distribution at temperature 1, before the request's sampling parameters.
    """

    entropy_above: Nats | Literal["fork"] | None = None
    entropy_below: Nats | Literal["fork"] | None = None
    varentropy_above: SquareNats | None = None
    varentropy_below: SquareNats | None = None
    top_probability_above: Probability | None = None
    top_probability_below: Probability | None = None
    entropy_quantile_above: Probability | None = None
    confidence_below: Nats | None = None
    confidence_window: Annotated[int, Field(ge=1, le=MOST_WINDOW, strict=True)] = MOST_WINDOW
    connectors: tuple[Word, ...] = Field(default=(), max_length=32)
    words: tuple[Word, ...] = Field(default=(), max_length=256)
    connector_probability_above: Probability | None = None
    since_connector_below: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    previous: Previous | None = None
    end_of_reasoning_within: Nats | None = None
    region: Region = "any"
    after_token: Position | None = None
    before_token: Position | None = None
    every: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    probability: Chance = 1.0
    at_most: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> When:
        check_families(self.connectors)
        check_words(self.words)
        named = bool(self.connectors or self.words)
        if self.connector_probability_above is not None and not named:
            raise ValueError("connector_probability_above needs `connectors` or `words`, whose probability is summed")
        if named and self.connector_probability_above is None and self.since_connector_below is None:
            raise ValueError(
                "`connectors` and `words` say nothing alone; add connector_probability_above or since_connector_below, or put "
                "them into `previous`"
            )
        if "confidence_window" in self.model_fields_set and self.confidence_below is None:
            raise ValueError("confidence_window says nothing alone; add confidence_below")
        if isinstance(self.probability, Schedule):
            low, high = self.probability.range()
            if low < 0 or high > 1:
                raise ValueError(f"a probability lies between 0 and 1; this schedule goes from {low:g} to {high:g}")
        self._check_order("entropy_above", "entropy_below")
        self._check_order("varentropy_above", "varentropy_below")
        self._check_order("top_probability_above", "top_probability_below")
        if self.after_token is not None and self.before_token is not None and self.after_token >= self.before_token:
            raise ValueError(f"no position is both after_token {self.after_token} and before_token {self.before_token}")
        return self

    def _check_order(self, above: str, below: str) -> None:
        low, high = getattr(self, above), getattr(self, below)
        if low is None or high is None:
            return
        if low == high or (isinstance(low, float) and isinstance(high, float) and low >= high):
            raise ValueError(f"no position has {above} {low} and {below} {high}; the first must be the smaller one")


class Do(Strict):
    """What to do where the conditions hold: exactly one of the actions."""

    suppress: Suppress | None = None
    amplify: Amplify | None = None
    temperature: Heat | None = None
    truncate: Truncate | None = None
    force: Force | None = None
    end_reasoning: EndReasoning | None = None
    stop: Stop | None = None
    branch: Branch | None = None
    probe: Probe | None = None
    sample: Sample | None = None
    resume: Resume | None = None
    control: Control | None = None
    observe: Observe | None = None

    @model_validator(mode="after")
    def _check(self) -> Do:
        exactly_one(self, "must hold exactly one action of")
        return self

    @property
    def action(self) -> str:
        """The name of the one action that is given."""
        return next(iter(self.model_fields_set))

    @property
    def growing(self) -> Growing | None:
        """The action, if it is one that takes several requests of the engine."""
        return self.branch or self.probe or self.sample or self.resume


class Rule(Strict):
    """One condition and one action."""

    when: When = When()
    do: Do

    @model_validator(mode="after")
    def _check(self) -> Rule:
        do, when = self.do, self.when
        if do.control is not None and when.model_fields_set:
            raise ValueError(
                "a control acts where the rule that it is like would act; put the conditions into do.control.like.when"
            )
        if do.control is not None and do.control.like.do.control is not None:
            raise ValueError("a control of a control is the same control; let it be like the rule itself")
        if (do.sample is not None or do.resume is not None) and when.model_fields_set:
            raise ValueError(f"{do.action} is about whole answers, so it has no conditions; leave `when` out")
        ends = (
            do.end_reasoning is not None
            or do.probe is not None
            or (do.force is not None and do.force.instead_of == "end_of_reasoning")
        )
        if when.region == "answer" and (ends or when.end_of_reasoning_within is not None):
            raise ValueError("contradicts itself: in the answer the reasoning has already ended; use region `reasoning`")
        return self

    @property
    def growing(self) -> Growing | None:
        """The rule's action that takes several requests of the engine, or that of the rule whose placebo it is."""
        return (self.do.control.like.do if self.do.control is not None else self.do).growing


Control.model_rebuild()
Do.model_rebuild()


class Policy(Strict):
    """A named list of rules, applied in order: masks first, then biases, then temperature and truncation, then what is forced."""

    name: Name = "inline"
    description: Annotated[str, StringConstraints(max_length=4000)] = ""
    source: Annotated[str, StringConstraints(max_length=400)] = ""
    shadow: Annotated[bool, Field(strict=True)] = False
    rules: tuple[Rule, ...] = Field(max_length=MOST_RULES)

    @model_validator(mode="after")
    def _check(self) -> Policy:
        growing = [number for number, rule in enumerate(self.rules) if rule.growing is not None]
        if len(growing) > 1:
            raise ValueError(
                f"rules {growing} take several requests; one tree grows of a request, so only one rule of a policy can"
            )
        return self

    @property
    def growing(self) -> Rule | None:
        """The rule by which a request grows a tree, if there is one."""
        return next((rule for rule in self.rules if rule.growing is not None), None)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the policy: of the SHA-256 of its canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def in_shadow(self) -> Policy:
        """The same policy, evaluated and recorded without changing anything."""
        return self.model_copy(update={"shadow": True})


def parse_policy(data: Any, field: str = "policy") -> Policy:
    """Read a policy from JSON-like data. Raises PolicyError with the path of the first field that is wrong."""
    if not isinstance(data, dict):
        raise PolicyError(field, f"must be an object with `rules`, not {type(data).__name__}")
    try:
        check_extent(data)
        return Policy.model_validate(data)
    except ExtentError as error:
        raise PolicyError(field + error.path, str(error)) from None
    except ValidationError as error:
        raise _explain(error, field) from None


def _explain(error: ValidationError, field: str) -> PolicyError:
    errors = error.errors(include_url=False, include_context=False)
    first = errors[0]
    path = _path(first, field)
    if first["type"] == "extra_forbidden":
        known = ", ".join(_part_at(first["loc"][:-1]).model_fields) or "nothing"
        return PolicyError(path, f"is not a field of a policy; here one can write {known}")
    if first["type"] == "missing":
        return PolicyError(path, "is missing")
    if first["type"] == "string_pattern_mismatch":
        return PolicyError(
            path, "must be lower-case letters, digits, '.', '_' or '-', at most 64 of them, and begin with a letter or digit"
        )
    if first["type"] == "tuple_type":
        return PolicyError(path, "must be a list")
    if first["type"] == "model_type":
        return PolicyError(path, "must be an object")
    same = [one["msg"].removeprefix("Value error, ") for one in errors if _path(one, field) == path]  # several for a union
    return PolicyError(path, " or ".join([same[0], *(message.removeprefix("Input should be ") for message in same[1:])]))


def _path(error: ErrorDetails, field: str) -> str:
    path = field
    for part in error["loc"]:
        if part in ("value", "object"):
            continue  # the two tags above
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _FIELDS or error["type"] in ("extra_forbidden", "missing"):
            path += f".{part}"  # other parts name pydantic's union members, which no user wrote
    return path


_PARTS: dict[str, type[BaseModel]] = {
    "rules": Rule,
    "like": Rule,
    "when": When,
    "previous": Previous,
    "do": Do,
    "suppress": Suppress,
    "amplify": Amplify,
    "bias": Schedule,
    "probability": Schedule,
    "temperature": EntropyTemperature,
    "truncate": Truncate,
    "force": Force,
    "instead_of": Tokens,
    "end_reasoning": EndReasoning,
    "stop": Stop,
    "branch": Branch,
    "probe": Probe,
    "sample": Sample,
    "resume": Resume,
    "alternatives": OfFamilies,
    "control": Control,
    "observe": Observe,
}
_FIELDS = set(Policy.model_fields).union(*(part.model_fields for part in _PARTS.values()))


def _part_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    names = [part for part in location if isinstance(part, str) and part in _PARTS]
    return _PARTS[names[-1]] if names else Policy
