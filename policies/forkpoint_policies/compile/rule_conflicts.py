"""Rules of one policy that contradict each other, or of which it would be undefined which one acts."""

from __future__ import annotations

from collections.abc import Sequence

from forkpoint_policies.spec import InputError, Policy

from .program import Action, CompiledRule
from .token_sets import TokenSets


def check_contradictions(policy: Policy, sets: TokenSets, path: str) -> None:
    """Reject a rule that raises tokens which another rule masks under the same conditions."""
    masking = {
        number: rule for number, rule in enumerate(policy.rules) if rule.do.suppress and rule.do.suppress.bias is None
    }
    raising = {number: rule for number, rule in enumerate(policy.rules) if rule.do.amplify}
    for number, rule in raising.items():
        for other, mask in masking.items():
            if rule.when != mask.when or rule.do.amplify is None or mask.do.suppress is None:
                continue
            if sets.completing(mask.do.suppress) >= sets.completing(rule.do.amplify):
                raise InputError(
                    f"{path}.rules[{number}].do.amplify",
                    f"contradicts rules[{other}], which under the same conditions never lets these tokens be sampled",
                )


def check_overlaps(rules: Sequence[CompiledRule], path: str) -> None:
    """Reject two rules that replace the same token: it would be undefined which one acts."""
    standing: dict[int, int] = {}
    for rule in rules:
        for token in rule.target.tokens if rule.instead else ():
            other = standing.setdefault(token, rule.number)
            if other != rule.number:
                raise InputError(
                    f"{path}.rules[{rule.number}].do",
                    f"stands in for tokens for which rules[{other}] stands in; name each once",
                )


def check_windows(rules: Sequence[CompiledRule], path: str) -> None:
    """Reject windows that what is stored of a request cannot serve: one sum of entropies, one window of states."""
    ranked = [rule for rule in rules if rule.rank_window]
    for rule in ranked:
        for field in ("rank_window", "rank_stride"):
            own, first = getattr(rule, field), getattr(ranked[0], field)
            if own != first:
                raise InputError(
                    f"{path}.rules[{rule.number}].when.{field}",
                    f"is {own}, and {first} in rules[{ranked[0].number}]; a policy has one",
                )
    windowed = [rule for rule in rules if rule.entropy_window]
    if len({rule.at_temperature for rule in windowed}) > 1:
        raise InputError(
            f"{path}.rules[{windowed[1].number}].when.at_temperature",
            "differs from that of another rule with mean_entropy_below; a policy has one temperature for them",
        )
    if any(rule.action == Action.TREE for rule in rules):
        for rule in windowed:
            if rule.at_temperature != 1:
                raise InputError(
                    f"{path}.rules[{rule.number}].when.at_temperature",
                    "cannot be had with mean_entropy_below in a policy that branches: branches take over entropies at "
                    "temperature 1",
                )
