"""What is evaluated in a request of an experiment to tell whether a policy could have acted in it: the triggered analysis.

In an arm that acts, its own rules. In a control arm that does not act, the other arms' rules, in shadow: the tokens are those of
stock vLLM, and up to where a rule first fires they are drawn as they would be in the arm, so it fires as often in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.spec import MAX_RULES, Policy, Rule
from forkpoint_server.traces.trace import Profile


@dataclass(frozen=True)
class Watch:
    """A compiled policy, and per arm (by its number) the rules of it whose firing means that the arm's policy could have acted.

    `always` has a bit for each arm whose policy acts on every request, whatever its tokens.
    """

    compiled: CompiledPolicy
    rules: Mapping[int, frozenset[int]]
    always: int = 0

    @property
    def watched(self) -> int:
        """A bit for each arm of which it is found out whether its policy would have acted."""
        return self.always | sum(1 << arm for arm in self.rules)

    def triggered(self, profiles: Iterable[Profile]) -> int:
        """A bit for each arm whose policy would have acted somewhere in these choices."""
        found, numbers = self.always, [rule.number for rule in self.compiled.program.rules]
        for profile in profiles:
            fired = np.flatnonzero(profile.fired[:, : len(numbers)].any(axis=0))
            acted = {numbers[index] for index in fired.tolist()}
            found |= sum(1 << arm for arm, rules in self.rules.items() if acted & rules and not found >> arm & 1)
        return found


def watch_own(arm: int, policy: Policy, compiled: CompiledPolicy) -> Watch:
    """An arm's own policy."""
    acting = frozenset(number for number, rule in enumerate(policy.rules) if _acts(rule))
    return Watch(compiled, {arm: acting}, _always(arm, policy))


def together(policies: Mapping[int, Policy]) -> Policy | None:
    """One policy in shadow with the rules of several, each once; None where one would hide the firing of another.

    Where a text is forced no other rule fires, and only one tree grows of a request. Rules that cannot be in one program for other
    reasons are the compiler's to find.
    """
    rules = tuple(dict.fromkeys(rule for policy in policies.values() for rule in policy.rules))
    several = len({policy.rules for policy in policies.values()}) > 1
    if several and any(_forces(rule) for rule in rules):
        return None
    if len(rules) > MAX_RULES or sum(rule.tree_action is not None for rule in rules) > 1:
        return None
    return Policy(name="shadow", shadow=True, rules=rules)


def watch_together(policies: Mapping[int, Policy], compiled: CompiledPolicy) -> Watch:
    """Several policies, of which `compiled` is the one that `together` gave."""
    place = {rule: number for number, rule in enumerate(compiled.policy.rules)}
    acting = {arm: frozenset(place[rule] for rule in policy.rules if _acts(rule)) for arm, policy in policies.items()}
    return Watch(compiled, acting, sum(_always(arm, policy) for arm, policy in policies.items()))


def _acts(rule: Rule) -> bool:
    return rule.do.observe is None


def _forces(rule: Rule) -> bool:
    do = rule.original.do
    return do.force is not None or do.end_reasoning is not None or do.stop is not None


def _always(arm: int, policy: Policy) -> int:
    plain: Sequence[Rule] = [rule.original for rule in policy.rules]
    return 1 << arm if any(rule.do.sample is not None or rule.do.resume is not None for rule in plain) else 0
