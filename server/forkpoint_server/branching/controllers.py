"""Which controller grows the tree of a policy."""

from __future__ import annotations

from forkpoint_policies.placebo import follows_signals
from forkpoint_policies.spec import Branch, Growing, Probe, Rule, Sample

from .branch import Forks
from .probe import Probing
from .resume import Resuming
from .runner import Controller, Growth
from .sample import Sampling


def gives_several(growing: Growing) -> bool:
    """Whether a request's choices are the answers of its tree, rather than one of them."""
    return isinstance(growing, Branch) and growing.select == "all"


def most_answers(growing: Growing, choices: int, most: int) -> int:
    """The most answers of a request's tree, which asks for so many choices and may have at most `most`."""
    answers = min(choices, most) if gives_several(growing) else most
    return min(answers, growing.max_branches or answers) if isinstance(growing, Branch) else answers


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
