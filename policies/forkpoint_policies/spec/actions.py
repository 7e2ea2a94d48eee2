"""The token-level actions of a rule, one model each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

from .fields import OBJECT, VALUE, WHICH, Fall, Name, Number, Rise, Schedule, Strict, Tokens, exactly_one, is_object


class Suppress(Tokens):
    """Lower the logits of these tokens by a bias; without a bias, never sample them."""

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
    """Keep only the likeliest tokens. Exactly one field says how many.

    `top_h` keeps tokens in order of probability, at most TOP_H_TOKENS, while their entropy is at most this share of the
    whole distribution's entropy (arXiv:2509.02510). `top_n_sigma` keeps tokens whose logit is at most so many standard
    deviations of all logits below the largest (arXiv:2411.07641). `p_less` keeps tokens at least as probable as the
    chance that two samples are the same token, Σ p² (arXiv:2509.23234).
    """

    top_k: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    min_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_h: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_n_sigma: Annotated[Number, Field(gt=0, le=100)] | None = None
    p_less: Literal[True] | None = None

    @model_validator(mode="after")
    def _check(self) -> Truncate:
        exactly_one(self, "must hold exactly one of")
        return self

    @property
    def kind(self) -> str:
        """The name of the field that is set."""
        return next(iter(self.model_fields_set))


Instead = Annotated[Annotated[Literal["end_of_reasoning"], VALUE] | Annotated[Tokens, OBJECT], WHICH]
MAX_TEXT = 256
AroundMarker = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
"""A text that is written before or after the marker that ends the reasoning."""


class Force(Strict):
    """Write this text, token by token; with `instead_of`, only where one of those tokens would have been sampled."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    instead_of: Instead | None = None


class EndReasoning(Strict):
    """End the reasoning here, with a text `before` and one `after` its end marker; with `instead_of`, only where one of
    those tokens would have been sampled."""

    before: AroundMarker = ""
    after: AroundMarker = ""
    instead_of: Tokens | None = None


class Stop(Strict):
    """End the generated text here; with `instead_of`, only where one of those tokens would have been sampled."""

    instead_of: Tokens | None = None


MAX_SCALE = 1000.0
MAX_STEERED = 1024
Factor = Annotated[Number, Field(ge=-MAX_SCALE, le=MAX_SCALE)]


class EntropyScale(Strict):
    """The scale as a function of the entropy H in nats where the rule fires: low + (high - low) · (H / ln V) ^
    exponent, with the V tokens of the vocabulary."""

    low: Factor
    high: Factor
    exponent: Annotated[Number, Field(gt=0, le=100)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> EntropyScale:
        if self.low == self.high:
            raise ValueError(f"low and high are the same; write the number, {self.low:g}")
        return self


def _which_scale(value: Any) -> str:
    by_entropy = isinstance(value, EntropyScale) or (isinstance(value, dict) and bool(value.keys() & {"low", "high"}))
    return "by_entropy" if by_entropy else is_object(value)


Scale = Annotated[
    Annotated[Factor, VALUE] | Annotated[Schedule, OBJECT] | Annotated[EntropyScale, Tag("by_entropy")],
    Discriminator(_which_scale),
]


class _OnStates(Strict):
    """What `steer` and `recycle` share: how many tokens are read with the change. `from_` is which one is the first."""

    # `from` is a keyword of Python
    model_config = ConfigDict(serialize_by_alias=True)

    tokens: Annotated[int, Field(ge=1, le=MAX_STEERED, strict=True)] = 1
    from_: str = Field(default="next", alias="from")

    @property
    def is_from_here(self) -> bool:
        """Whether the token before is read with the change, so that it is decided before the model computes here."""
        return self.from_ == "here"


class Steer(_OnStates):
    """Add a vector to the hidden states of the token that is drawn here, and of those after it up to `tokens`: `scale`
    times the vector, at the layers that the vector is for.

    The token is drawn as without the rule: what is drawn next depends on it. With `from` `here`, the first token that
    is read with the vector is the one before, so that the token drawn here depends on it: the rule's conditions are of
    the text, and it acts from position 1 on. A token is read with one vector: the one that was decided last, and of
    those decided at one position the last rule's. A schedule gives the scale at the position of the token that is read;
    a function of the entropy gives all of a decision's tokens the scale of the position where it was made.
    """

    from_: Literal["next", "here"] = Field(default="next", alias="from")
    vector: Name
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _check_scale(self) -> Steer:
        if self.scale == 0:
            raise ValueError("a scale of 0 adds nothing; below 0 the vector is subtracted")
        if self.is_from_here and isinstance(self.scale, EntropyScale):
            raise ValueError(
                "a scale by entropy is known only after the forward pass that `from` `here` changes; write a number or "
                "a schedule over positions, or `from` `next`"
            )
        return self


MAX_LAYER = 1023


class Recycle(_OnStates):
    """Run a layer of the model a second time for the token that is drawn here, and for those after it up to `tokens`:
    the second pass reads the first one's output, and keeps its keys and values.

    What is drawn next depends on it. With `from` `here`, the first token that is read so is the one before, as with
    `steer`. A token's layer is run again once: that of the latest decision, and of those at one position the last
    rule's.

    With `from` `again`, it is decided on the model's own distribution: where the rule fires, the model computes the
    position a second time, with the layer's output for the token before in place of its input, and the token is drawn
    from that distribution. What the model has stored of the token before stays as it was.
    """

    from_: Literal["next", "here", "again"] = Field(default="next", alias="from")
    layer: Annotated[int, Field(ge=0, le=MAX_LAYER, strict=True)]

    @model_validator(mode="after")
    def _check_tokens(self) -> Recycle:
        if self.draws_again and self.tokens != 1:
            raise ValueError("`tokens` is of `from` `next` and `here`; with `again` one token is drawn; leave it out")
        return self

    @property
    def draws_again(self) -> bool:
        """Whether the position itself is computed a second time, and its token drawn from that."""
        return self.from_ == "again"


class Observe(Strict):
    """Mark the position and change nothing."""
