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
    growing, control = rule.growing, rule.do.control
    placebo = control is not None
    if isinstance(growing, Branch):
        return BranchController(
            growth, growing, control is not None and not follows_signals(control.like)
        )  # else the kernel says where
    if isinstance(growing, Probe):
        return ProbeController(growth, growing, placebo)
    if isinstance(growing, Sample):
        return SampleController(growth, growing, placebo)
    assert growing is not None
    return ResumeController(growth, growing)
