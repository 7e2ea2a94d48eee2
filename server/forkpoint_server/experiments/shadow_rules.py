"""The triggered analysis needs to know in which requests a policy could have acted: which rules each request evaluates.

An arm that acts evaluates its own rules. A control arm without a policy evaluates the other arms' rules in shadow: its
tokens are those of stock vLLM, and up to the first firing of a rule they are sampled as they would be in the arm, so
the rule triggers as often in both. A rule that acts in place of certain tokens (`instead_of`) triggers where one of
them is sampled; where it acts, the kernel samples that at the request's temperature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.spec import MAX_RULES, Policy, Rule


@dataclass(frozen=True)
class TriggerDetector:
    """What a request evaluates, and for which arms that shows whether their policy could have acted.

    `rules` maps the number of an arm to those rules of the compiled policy whose firing triggers the request for that
    arm. `always` has one bit per arm whose policy acts on every request, whichever tokens it has.
    """

    compiled: CompiledPolicy
    rules: Mapping[int, frozenset[int]]
    always: int = 0

    @property
    def observed_arms(self) -> int:
        """One bit per arm for which the request shows whether its policy would have acted."""
        return self.always | sum(1 << arm for arm in self.rules)

    def triggered(self, times_fired: Iterable[NDArray[np.integer]]) -> int:
        """One bit per arm whose policy would have acted somewhere in these choices, of which each has [rules]."""
        found, numbers = self.always, [rule.number for rule in self.compiled.program.rules]
        for times in times_fired:
            fired = np.flatnonzero(times[: len(numbers)])
            acted = {numbers[index] for index in fired.tolist()}
            found |= sum(1 << arm for arm, rules in self.rules.items() if acted & rules and not found >> arm & 1)
        return found


def detect_own(arm: int, policy: Policy, compiled: CompiledPolicy) -> TriggerDetector:
    """The detector of a request that runs an arm's own policy."""
    acting = frozenset(number for number, rule in enumerate(policy.rules) if _acts(rule))
    return TriggerDetector(compiled, {arm: acting}, _always(arm, policy))


def combine_in_shadow(policies: Mapping[int, Policy]) -> Policy | None:
    """One shadow policy with the rules of several, each once; None where one would hide the firing of another.

    Where a text is forced, no other rule fires; and a request has only one tree. The compiler finds the other rules
    that cannot be in one program.
    """
    rules = tuple(dict.fromkeys(rule for policy in policies.values() for rule in policy.rules))
    several = len({policy.rules for policy in policies.values()}) > 1
    if several and any(_forces(rule) for rule in rules):
        return None
    if len(rules) > MAX_RULES or sum(rule.tree_action is not None for rule in rules) > 1:
        return None
    return Policy(name="shadow", shadow=True, rules=rules)


def detect_combined(policies: Mapping[int, Policy], compiled: CompiledPolicy) -> TriggerDetector:
    """The detector of a request that runs what `combine_in_shadow` made of these policies."""
    numbers = {rule: number for number, rule in enumerate(compiled.policy.rules)}
    acting = {arm: frozenset(numbers[rule] for rule in policy.rules if _acts(rule)) for arm, policy in policies.items()}
    return TriggerDetector(compiled, acting, sum(_always(arm, policy) for arm, policy in policies.items()))


def _acts(rule: Rule) -> bool:
    return rule.do.observe is None


def _forces(rule: Rule) -> bool:
    do = rule.original.do
    return do.force is not None or do.end_reasoning is not None or do.stop is not None


def _always(arm: int, policy: Policy) -> int:
    """The bit of an arm whose policy acts on every request, else 0."""
    plain: Sequence[Rule] = [rule.original for rule in policy.rules]
    return 1 << arm if any(rule.do.sample is not None or rule.do.resume is not None for rule in plain) else 0
