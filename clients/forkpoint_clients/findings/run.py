"""Tests findings one after another, each on what the others asked already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import Finding
from .lab import CannotError, Lab
from .report import Retested

NO_FORKPOINT = "needs a Forkpoint server: entropies, traces and policies are not there otherwise"


async def retest(
    findings: Sequence[Finding], lab: Lab, begun: Callable[[Finding], None], done: Callable[[Retested], None]
) -> list[Retested]:
    """What came of each. Raises ServerLostError and ServerRefusesError, when the journal has all that was answered."""
    found = []
    forkpoint = await lab.asker.is_forkpoint()
    for finding in findings:
        begun(finding)
        if not forkpoint:
            one = Retested(finding, cannot=f"{NO_FORKPOINT}, and {lab.asker.url} is none")
        else:
            try:
                one = Retested(finding, await finding.retest(lab))
            except CannotError as error:
                one = Retested(finding, cannot=str(error))
        found.append(one)
        done(one)
    return found
