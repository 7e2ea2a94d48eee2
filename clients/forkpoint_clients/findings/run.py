"""Retests findings one after another; each reuses the answers of the earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import Finding
from .lab import CannotError, Lab
from .report import RetestedFinding

NO_FORKPOINT = "needs a Forkpoint server: only that has entropies, traces and policies"


async def retest(
    findings: Sequence[Finding], lab: Lab, done: Callable[[RetestedFinding], None]
) -> list[RetestedFinding]:
    """Retest the findings; `done` is called with each. Raises ServerLostError and ServerRefusesError; the journal is
    complete.
    """
    retested, quick = [], lab.setting.quick
    forkpoint = await lab.asker.is_forkpoint()
    for finding in findings:
        if not forkpoint:
            outcome = RetestedFinding(finding, cannot=f"{NO_FORKPOINT}, and {lab.asker.url} is not one", quick=quick)
        else:
            try:
                outcome = RetestedFinding(finding, await finding.retest(lab), quick=quick)
            except CannotError as error:
                outcome = RetestedFinding(finding, cannot=str(error), quick=quick)
        retested.append(outcome)
        done(outcome)
    return retested
