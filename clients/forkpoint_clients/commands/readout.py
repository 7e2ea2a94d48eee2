"""What `forkpoint readout fit` does: asks, fits, prints how well the readout separates, and writes it."""

from __future__ import annotations

import asyncio
import json

from rich.table import Table

from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.evaluate.asker import Asker
from forkpoint_clients.evaluate.scorers import Scorer
from forkpoint_clients.fitting.collect import Setting
from forkpoint_clients.fitting.readout import ReadoutReport, artefact, fit
from forkpoint_clients.fitting.scored import labelled, scored_by
from forkpoint_clients.fitting.states import Served
from forkpoint_policies.hidden.artefact import Artefact

from .fitting import Destination, Fitting, collect_showing, shortened, split_table, with_interval, write

COMMAND = "readout fit"


def fitting_of(
    setting: Setting,
    measure: Scorer,
    data: str,
    held_out: float,
    placebos: int,
    threshold: float,
    source: str,
    destination: Destination,
    form: Format,
) -> Fitting:
    """What fits a readout on a server, prints how well it separates, and writes it."""

    async def fitting(asker: Asker, served: Served) -> None:
        answers = await collect_showing(COMMAND, asker, setting, scored_by(measure, setting.items))
        readout, report = await asyncio.to_thread(fit, labelled(answers), held_out, placebos, setting.seed)
        fitted = _how(setting, measure, data, report)
        made = artefact(readout, served.model, fitted, asker.model, threshold, source)
        print_report(report, destination.name, made, form)
        await write(asker, made, destination)

    return fitting


def _how(setting: Setting, measure: Scorer, data: str, report: ReadoutReport) -> str:
    """How a readout was fitted, in a line."""
    found, at = report.separation, shortened(json.dumps(setting.when[0]), 300)
    return (
        f"shrunken linear discriminant of {report.fitted.states} states at {at}, "
        f"calibrated on {report.calibrated.states}; {report.answers} answers to {shortened(data, 200)}, "
        f"scored by {shortened(measure.name, 100)}; held-out AUC {found.fitted:.3f} (random directions "
        f"{found.random_direction:.3f})"
    )


def print_report(report: ReadoutReport, name: str, made: Artefact, form: Format) -> None:
    """What was fitted and how well it separates."""
    document = {"name": name, "readout": made.to_dict(), **report.to_dict()}
    found = report.separation
    splits = split_table(
        "right", {"fitted": report.fitted, "calibrated": report.calibrated, "held out": report.held_out}
    )
    areas = Table("held out", "area under the ROC curve")
    areas.add_row(name, with_interval(found.fitted, found.interval))
    areas.add_row("random directions, mean", f"{found.random_direction:.3f}")
    areas.add_row(
        "fitted to shuffled labels", f"{found.shuffled_labels:.3f} (as good or better: p = {found.p_value:.3f})"
    )
    areas.add_row("the token's position alone", with_interval(report.position.area, report.position.interval))
    said = Table("said", "right", "states")
    for one in report.bins:
        said.add_row(f"{one.low:.1f} to {one.high:.1f}", f"{one.right:.2f}", f"{one.states:,}")
    print_data(form, document, [document], [splits, areas, said])
    if form is Format.TABLE:
        print(f"\n{verdict(report, name)}")


def verdict(report: ReadoutReport, name: str) -> str:
    """What the figures say, in a sentence."""
    if not report.separation.beats_chance:
        return f"{name} does not tell right from wrong better than chance here: do not act on it."
    if not report.beats_position:
        return (
            f"{name} tells right from wrong better than chance, but not clearly better than the token's position does: "
            "it may only count tokens."
        )
    return f"{name} tells right from wrong better than chance, and better than the token's position does."
