"""Which controller grows the tree of a policy."""

from __future__ import annotations

from forkpoint_policies.placebo import follows_signals
from forkpoint_policies.spec import Branch, Probe, Rule, Sample

from .branch import Forks
from .probe import Probing
from .resume import Resuming
from .runner import Controller, Growth
from .sample import Sampling


def controller_of(growth: Growth, rule: Rule) -> Controller:
    """The controller of a rule whose action takes several requests."""
    growing, control = rule.growing, rule.do.control
    placebo = control is not None
    if isinstance(growing, Branch):
        return Forks(growth, growing, control is not None and not follows_signals(control.like))  # else the kernel says where
    if isinstance(growing, Probe):
        return Probing(growth, growing, placebo)
    if isinstance(growing, Sample):
        return Sampling(growth, growing, placebo)
    assert growing is not None
    return Resuming(growth, growing)
