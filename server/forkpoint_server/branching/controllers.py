"""Selects the controller for the action of a tree rule."""

from __future__ import annotations

from forkpoint_policies.placebo import is_placed_by_server
from forkpoint_policies.spec import Branch, Probe, Rule, Sample

from .branch import BranchController
from .consistency import ConsistencyController
from .interface import Controller, TreeControl
from .measure import MeasureController
from .probe import ProbeController
from .resume import ResumeController
from .sample import SampleController


def controller_of(runner: TreeControl, rule: Rule) -> Controller:
    """The controller of a rule whose action takes several engine requests."""
    action, control = rule.tree_action, rule.do.control
    is_placebo = control is not None
    if isinstance(action, Branch):
        by_chance = control is not None and is_placed_by_server(rule.original)
        return BranchController(runner, action, by_chance, is_placebo)
    if isinstance(action, Probe) and action.measure_only:
        return MeasureController(runner, action, rule.original.when)
    if isinstance(action, Probe):
        return ProbeController(runner, action, rule.original.when, is_placebo)
    if isinstance(action, Sample):
        if action.select != "confidence":
            return ConsistencyController(runner, action, is_placebo)
        return SampleController(runner, action, is_placebo)
    assert action is not None
    return ResumeController(runner, action)
