"""Rules of one policy that contradict each other, or of which it would be undefined which one acts."""

from __future__ import annotations

from collections.abc import Sequence

from forkpoint_policies.spec import InputError, Policy

from .program import CompiledRule
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
