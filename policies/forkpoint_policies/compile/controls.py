"""A rule's control, compiled: the same action on other tokens, or at other positions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from forkpoint_policies.placebo import PlaceboSampler, follows_signals, kinds_of
from forkpoint_policies.spec import Control, InputError, Probe, Sample

from .program import Action, CompiledRule, ControlKind, TokenSet
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
        tree_action = control.like.tree_action
        by_server = isinstance(tree_action, Probe | Sample) or (
            tree_action is not None and not follows_signals(control.like)
        )
        return (like if by_server else msgspec.structs.replace(like, control=ControlKind.POSITIONS)), None
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
