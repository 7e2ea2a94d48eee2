"""Which controller grows the tree of a policy."""

from __future__ import annotations

from forkpoint_policies.placebo import follows_signals
from forkpoint_policies.spec import Branch, Probe, Rule, Sample

from .branch import BranchController
from .probe import ProbeController
from .resume import ResumeController
from .runner import Controller, TreeRunner
from .sample import SampleController


def controller_of(growth: TreeRunner, rule: Rule) -> Controller:
    """The controller of a rule whose action takes several requests."""
    action, control = rule.tree_action, rule.do.control
    placebo = control is not None
    if isinstance(action, Branch):
        return BranchController(
            growth, action, control is not None and not follows_signals(rule.original)
        )  # else the kernel says where
    if isinstance(action, Probe):
        return ProbeController(growth, action, placebo)
    if isinstance(action, Sample):
        return SampleController(growth, action, placebo)
    assert action is not None
    return ResumeController(growth, action)
