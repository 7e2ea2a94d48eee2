"""Which arms of an experiment are the placebos of which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forkpoint_policies.placebo import PLACEBO
from forkpoint_server.store.definitions import StoredArm

OF_THE_PLACEBO = ("match", "strength")
"""The parameters that a placebo has and its policy has not."""


def placebos(arms: Sequence[StoredArm]) -> dict[str, str]:
    """Placebo arms and the arms of their policies, by name.

    NAME.placebo is that of an arm with the policy NAME and the same parameters. Arms in shadow change nothing, and are
    left out.
    """
    used = {arm.name: use for arm in arms if not arm.shadow and (use := _use(arm.policy)) is not None}
    return {
        name: policy_arm
        for name, (placebo, parameters) in used.items()
        if placebo.endswith(PLACEBO)
        for policy_arm in [_first(used, placebo.removesuffix(PLACEBO), parameters)]
        if policy_arm is not None
    }


def _use(policy: Any) -> tuple[str, dict[str, Any]] | None:
    """The name and the parameters of a policy that an author referred to by name; None in shadow, or inline."""
    if isinstance(policy, str):
        return policy, {}
    if isinstance(policy, dict) and "use" in policy and not policy.get("shadow", False):
        return policy["use"], dict(policy.get("with") or {})
    return None


def _first(used: dict[str, tuple[str, dict[str, Any]]], policy: str, of_placebo: dict[str, Any]) -> str | None:
    parameters = {name: value for name, value in of_placebo.items() if name not in OF_THE_PLACEBO}
    return next((name for name, use in used.items() if use == (policy, parameters)), None)
