"""Policies that use every part of the state that a request has."""

from __future__ import annotations

from typing import Any

from forkpoint_policies.spec import ACTIONS


def _rule(when: dict[str, Any], **do: Any) -> dict[str, Any]:
    return {"rules": [{"when": when, "do": do}]}


STATEFUL: list[dict[str, Any]] = [
    _rule({"at_most": 5, "entropy_above": 0.3}, temperature=0.2),
    _rule({"entropy_quantile_above": 0.6}, suppress={"connectors": ["conclusion"]}),
    _rule({"confidence_below": 14.0, "confidence_window": 6}, truncate={"top_k": 1}),
    _rule(
        {"effective_rank_velocity_below": 0.0, "rank_window": 8, "rank_stride": 2}, suppress={"words": ["then", "so"]}
    ),
    _rule({"mean_entropy_below": 0.2, "mean_entropy_window": 6, "at_temperature": 0.7}, temperature=2.0),
    _rule({}, suppress={"words": ["then", "Then"], "match": "cased"}),
    _rule({"previous": {"endings": ["."]}, "probability": 0.3, "at_most": 3}, force={"text": "Hmm, no. Wait, try"}),
    _rule({"since_connector_below": 9}, suppress={"connectors": ["reflection"], "bias": -4.0}),
    _rule({}, control={"like": {"when": {"entropy_above": 0.5}, "do": {"temperature": 0.3}}, "match": "positions"}),
    _rule({"at_most": 2}, force={"text": " Wait", "instead_of": {"words": ["so", "then"]}}),
    _rule({}, control={"like": {"do": {"temperature": {"base": 0.8, "exponent": 1.5}}}, "match": "positions"}),
    _rule({}, control={"like": {"do": {"suppress": {"words": ["try", "then"]}}}, "match": "probability"}),
    *(_rule({}, **{name: dict(example)}) for name, action in ACTIONS.items() for example in action.examples),
]
