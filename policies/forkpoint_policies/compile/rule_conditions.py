"""Where a rule fires, compiled: bounds on signals, words before the position, positions, chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from forkpoint_policies.spec import (
    MAX_READOUTS,
    RANK_BOUNDS,
    READOUT_BOUNDS,
    InputError,
    ReadoutBound,
    Rule,
    When,
    unknown_name,
)

from .compilation import Compilation
from .curves import curve, tokens_of
from .policy_words import with_families
from .program import UNLIMITED, RegionCode, Signal, TokenSet
from .written_texts import check_end_token


def conditions_of(build: Compilation, rule: Rule, number: int, path: str) -> dict[str, Any]:
    """The fields of a CompiledRule that say where a rule fires; `path` names its `when`.

    Raises InputError for conditions that the served model cannot decide, or that no position meets.
    """
    when = with_families(rule.when)
    if when.region != "any" and build.target.regions.unfollowed:
        raise InputError(f"{path}.region", build.target.regions.unfollowed)
    low, high = _bounds(build, when, path)
    for name in ("end_of_reasoning_within", "end_of_reasoning_rank_below"):
        if getattr(when, name) is not None:
            check_end_token(build, f"{path}.{name}")
    if when.reads_rank and build.target.states_unreadable:
        bound = next(bound for bound in RANK_BOUNDS if getattr(when, bound) is not None)
        raise InputError(f"{path}.{bound}", f"needs hidden states: {build.target.states_unreadable}")
    first_position, last_position = _positions(build, when, path)
    if rule.do.on_states is not None and rule.do.on_states.is_from_here:
        first_position = max(first_position, 1)  # at 0, the token before is the prompt's
        if last_position < first_position:
            raise InputError(
                f"{path}.before_token",
                "leaves only position 0, and the token before it is the prompt's, whose states no rule changes",
            )
    sums = when.connector_probability_above is not None or when.connector_likeliest
    previous = build.sets.tokens(when.previous, f"{path}.previous") if when.previous is not None else TokenSet()
    return {
        "number": number,
        "low": low,
        "high": high,
        "probability": curve(build, when.probability),
        "mass": build.sets.words(when, f"{path}.words") if sums else TokenSet(),
        "since": build.sets.words(when, f"{path}.words") if when.since_connector_below is not None else TokenSet(),
        "since_below": when.since_connector_below or UNLIMITED,
        "previous": previous,
        "needs_previous": when.previous is not None,
        "window": when.confidence_window if when.confidence_below is not None else 0,
        "entropy_window": when.mean_entropy_window if when.mean_entropy_below is not None else 0,
        "rank_window": when.rank_window if when.reads_rank else 0,
        "rank_stride": when.rank_stride if when.reads_rank else 0,
        "at_temperature": when.at_temperature or 1.0,
        "region": RegionCode[when.region.upper()],
        "first_position": first_position,
        "last_position": last_position,
        "every": when.every or 1,
        "at_most": when.at_most or UNLIMITED,
    }


def _bounds(build: Compilation, when: When, path: str) -> tuple[list[float], list[float]]:
    low, high = [-math.inf] * len(Signal), [math.inf] * len(Signal)
    limits = (
        (Signal.ENTROPY, when.entropy_above, when.entropy_below),
        (Signal.VARENTROPY, when.varentropy_above, when.varentropy_below),
        (Signal.TOP_PROBABILITY, when.top_probability_above, when.top_probability_below),
        (Signal.MASS, when.connector_probability_above, None),
        (Signal.RANK, when.entropy_quantile_above, None),
        (Signal.CONFIDENCE, None, when.confidence_below),
        (Signal.MEAN_ENTROPY, None, when.mean_entropy_below),
        (Signal.END_RANK, None, when.end_of_reasoning_rank_below),
        (Signal.EFFECTIVE_RANK, when.effective_rank_above, when.effective_rank_below),
        (Signal.RANK_VELOCITY, when.effective_rank_velocity_above, when.effective_rank_velocity_below),
        (Signal.RANK_ACCELERATION, when.effective_rank_acceleration_above, when.effective_rank_acceleration_below),
        *_readout_limits(build, when, path),
    )
    for signal, above, below in limits:
        if above is not None:
            low[signal] = build.target.fork_threshold if above == "fork" else float(above)
        if below is not None:
            high[signal] = build.target.fork_threshold if below == "fork" else float(below)
        if low[signal] >= high[signal]:
            name = signal.name.lower()
            raise InputError(path, f"no position has {name}_above {low[signal]:g} and {name}_below {high[signal]:g}")
    if when.connector_likeliest:
        low[Signal.LIKELIEST] = 0.5
    if when.end_of_reasoning_within is not None:  # this bound includes its end
        high[Signal.END_MARGIN] = float(np.nextafter(np.float32(when.end_of_reasoning_within), np.float32(np.inf)))
    return low, high


def _readout_limits(build: Compilation, when: When, path: str) -> Iterator[tuple[Signal, float | None, float | None]]:
    """The bounds on readouts. Raises InputError for an unknown readout, and for too many."""
    for field in READOUT_BOUNDS:
        bound: ReadoutBound | None = getattr(when, field)
        if bound is None:
            continue
        _check_readout(build, bound, f"{path}.{field}")
        if bound.name not in build.readouts:
            build.readouts.append(bound.name)
        if len(build.readouts) > MAX_READOUTS:
            raise InputError(f"{path}.{field}.name", f"is one readout too many; a policy names {MAX_READOUTS}")
        signal = Signal(Signal.READOUT_1 + build.readouts.index(bound.name))
        yield (signal, bound.value, None) if field == "readout_above" else (signal, None, bound.value)


def _check_readout(build: Compilation, bound: ReadoutBound, path: str) -> None:
    if build.target.states_unreadable:
        raise InputError(path, f"needs hidden states: {build.target.states_unreadable}")
    names = sorted(name for name, one in build.target.artefacts.items() if one.kind == "readout")
    if bound.name not in names:
        if bound.name in build.target.artefacts:
            problem = f"{bound.name!r} is a vector, which has no value; name a readout"
        elif names:
            problem = unknown_name("readout", bound.name, names, "GET /v1/vectors lists them")
        else:
            problem = f"there is no readout {bound.name!r}; none is stored: store one with PUT /v1/vectors/NAME"
        raise InputError(f"{path}.name", problem)
    if build.target.artefacts[bound.name].output == "probability" and not 0 <= bound.value <= 1:
        problem = f"must be from 0 to 1, not {bound.value:g}: {bound.name!r} is a probability"
        raise InputError(f"{path}.value", problem)


def _positions(build: Compilation, when: When, path: str) -> tuple[int, int]:
    """The first and the last position at which a rule may act."""
    first = 0 if when.after_token is None else tokens_of(build, when.after_token)
    if when.before_token is None:
        return first, UNLIMITED
    end = tokens_of(build, when.before_token)
    if first >= end and when.after_token is not None:
        raise InputError(path, f"no position is both after_token {first} and before_token {end} of this model")
    for name, width in when.windows.items():
        if width > end:
            raise InputError(
                f"{path}.{name}", f"is {width} tokens, which is never full before before_token {end}; at most {end}"
            )
    return first, end - 1
