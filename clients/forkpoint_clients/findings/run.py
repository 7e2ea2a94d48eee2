"""Retests findings one after another; each reuses the answers of the earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .base import Finding
from .lab import CannotError, Lab
from .report import RetestedFinding

NO_FORKPOINT = "needs a Forkpoint server: only that has entropies, traces and policies"


async def retest(
    findings: Sequence[Finding], lab: Lab, done: Callable[[RetestedFinding], None], questions: Mapping[str, int]
) -> list[RetestedFinding]:
    """Retest the findings, each on the first `questions` of the lab's, by its name; `done` is called with each result.

    Raises ServerLostError and ServerRefusesError; every answer received before is in the journal.
    """
    retested, quick = [], lab.setting.quick
    forkpoint = await lab.asker.is_forkpoint()
    for finding in findings:
        if not forkpoint:
            outcome = RetestedFinding(finding, cannot=f"{NO_FORKPOINT}, and {lab.asker.url} is not one", quick=quick)
        else:
            try:
                own = replace(lab, setting=lab.setting.first(questions[finding.name]))
                outcome = RetestedFinding(finding, await finding.retest(own), quick=quick)
            except CannotError as error:
                outcome = RetestedFinding(finding, cannot=str(error), quick=quick)
        retested.append(outcome)
        done(outcome)
    return retested
