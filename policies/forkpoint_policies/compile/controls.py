"""A rule's control, compiled: the same action on other tokens, or at other positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from forkpoint_policies.placebo import PlaceboSampler, is_placed_by_server, kinds_of
from forkpoint_policies.spec import Control, InputError

from .program import ON_SETS, Action, CompiledRule, ControlKind, Curve, Shape, Signal, TokenSet
from .served_model import ServedModel
from .word_automaton import ANY_STATE, FREE


def control_rule(
    control: Control, like: CompiledRule, written: Sequence[int], target: ServedModel, field: str
) -> tuple[CompiledRule, PlaceboSampler | None]:
    """The control of a compiled rule, and what samples the tokens that replace the rule's own in each request.

    `written` are the tokens with which a tree rule's further requests start. Raises InputError for a control that the
    rule or the served model cannot have.
    """
    match, possible = control.match, kinds_of(control.like)
    if match not in possible:
        said = ", ".join(possible) or "nothing, as it does the same at every position"
        raise InputError(field, f"a rule that does this can be matched by {said}; not by {match!r}")
    if match == "probability":
        return msgspec.structs.replace(like, control=ControlKind.PROBABILITY), None
    if match == "positions":
        if is_placed_by_server(control.like):
            return like, None
        return msgspec.structs.replace(like, control=ControlKind.POSITIONS), None
    if match == "direction":
        return msgspec.structs.replace(like, control=ControlKind.DIRECTION), None
    if match == "dose":
        return _spread(like, control.strength or 0.0), None
    vocabulary, forced = target.vocabulary, like.action in (Action.FORCE, Action.TREE)
    # the tokens that are the whole word: other pieces complete it only after a prefix
    own = {t for t, s in zip(like.target.tokens, like.target.states, strict=True) if s in (ANY_STATE, FREE)}
    text = like.text or list(written)
    end = set(target.regions.reasoning_end) if control.like.do.end_reasoning is not None else set()
    kept = tuple((index, token) for index, token in enumerate(text) if token in end)
    replaced = [token for token in text if token not in end] if forced else sorted(own) or like.target.tokens[:1]
    excluded = {
        *vocabulary.silent,
        *like.target.tokens,
        *like.text,
        *written,
        *target.regions.reasoning_start,
        *target.regions.reasoning_end,
    }
    frequency, shares = None, None
    if match == "frequency":
        if not target.frequencies:
            raise InputError(
                field, "`frequency` needs the token frequencies of the served model, which was not calibrated"
            )
        excluded |= target.connectors
        frequency = sum(target.frequencies.get(token, 0.0) for token in replaced)
        pool = np.array([token for token in sorted(target.frequencies) if token not in excluded], np.int64)
        shares = np.array([target.frequencies[token] for token in pool.tolist()])
    else:
        pool = np.setdiff1d(np.arange(vocabulary.size), np.array(sorted(excluded), np.int64))
    needed = len(replaced) if frequency is None else 1
    if len(pool) < needed:
        raise InputError(field, f"needs {needed} other tokens to draw from; the served model has {len(pool)}")
    sampler = PlaceboSampler(like.number, len(replaced), pool, frequency, shares, text=forced, kept=kept)
    if like.action == Action.TREE:
        return like, sampler
    sampled = msgspec.structs.replace(like, control=ControlKind.SAMPLED)
    return (sampled if forced else msgspec.structs.replace(sampled, target=TokenSet())), sampler


def _spread(like: CompiledRule, strength_nats: float) -> CompiledRule:
    """The control matched by dose: at every position of the rule's region and range of tokens, and never on the tokens
    that the rule raises or lowers.

    Its action is a mask of those tokens, which the kernel takes back: it says which tokens keep their probability.
    """
    return CompiledRule(
        number=like.number,
        action=Action.MASK,
        strength=Curve(Shape.CONSTANT, 0.0),
        low=[-math.inf] * len(Signal),
        high=[math.inf] * len(Signal),
        probability=Curve(Shape.CONSTANT, 1.0),
        target=like.target if like.action in ON_SETS else TokenSet(),
        control=ControlKind.DOSE,
        spread=strength_nats,
        region=like.region,
        first_position=like.first_position,
        last_position=like.last_position,
    )
