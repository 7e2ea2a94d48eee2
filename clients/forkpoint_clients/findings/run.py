"""Tests findings one after another, each on what the others asked already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import Finding
from .lab import CannotError, Lab
from .report import RetestedFinding

NO_FORKPOINT = "needs a Forkpoint server: entropies, traces and policies are not there otherwise"


async def retest(
    findings: Sequence[Finding], lab: Lab, begun: Callable[[Finding], None], done: Callable[[RetestedFinding], None]
) -> list[RetestedFinding]:
    """What came of each. Raises ServerLostError and ServerRefusesError, when the journal has all that was answered."""
    found = []
    forkpoint = await lab.asker.is_forkpoint()
    for finding in findings:
        begun(finding)
        if not forkpoint:
            one = RetestedFinding(finding, cannot=f"{NO_FORKPOINT}, and {lab.asker.url} is none")
        else:
            try:
                one = RetestedFinding(finding, await finding.retest(lab))
            except CannotError as error:
                one = RetestedFinding(finding, cannot=str(error))
        found.append(one)
        done(one)
    return found
