"""What `forkpoint steer fit` does: asks, fits, prints how well each layer separates, and writes the vector."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.evaluate.asker import Asker
from forkpoint_clients.fitting.collect import Setting
from forkpoint_clients.fitting.conditions import Labels, labelled_by, together
from forkpoint_clients.fitting.states import Layer, Served
from forkpoint_clients.fitting.vector import LayerReport, VectorReport, artefact, fit
from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_policies.hidden.fit_vector import Method
from forkpoint_policies.spec import InputError

from .fitting import Destination, Fitting, collect_showing, shortened, split_table, with_interval, write

COMMAND = "steer fit"


def layer_numbers(text: str, option: str) -> tuple[int, ...]:
    """Layers as in 12,20. Raises InputError."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InputError(option, f"must be numbers of layers separated by commas, as in 12,20; not {text[:50]!r}")
    return tuple(sorted({int(part) for part in parts}))


def fitting_of(
    setting: Setting,
    labels: Labels,
    kept: Sequence[int],
    method: Method,
    data: str,
    held_out: float,
    placebos: int,
    scale: float,
    source: str,
    destination: Destination,
    form: Format,
) -> Fitting:
    """What fits a vector on a server, prints how well its layers separate, and writes it.

    If the setting names no layers, all that the server hooks are read. `kept` are the layers of the vector, the best
    one if it is empty.
    """

    async def fitting(asker: Asker, served: Served) -> None:
        asked = replace(setting, layers=_hooked(setting.layers, kept, served))
        answers = await collect_showing(COMMAND, asker, asked, labelled_by(labels, asked.max_states))
        vectors, report = await asyncio.to_thread(fit, together(answers), method, held_out, placebos, asked.seed)
        written = [f"layer.{layer}" for layer in kept] or [report.best.layer]
        fitted = _how(labels, method, data, report, written)
        made = artefact(vectors, written, served.model, fitted, asker.model, scale, source)
        print_report(report, destination.name, made, form)
        await write(asker, made, destination)

    return fitting


def _hooked(wanted: Sequence[Layer], kept: Sequence[int], served: Served) -> list[Layer]:
    """The layers to read. Raises InputError for one that the server does not hook, or that is kept and not read."""
    if not served.hidden_layers:
        raise InputError("--server", "was started without --hidden-layers: vectors can be added to none of its layers")
    hooked = ", ".join(map(str, served.hidden_layers))
    unknown = [layer for layer in wanted if layer not in served.hidden_layers]
    if unknown:
        raise InputError("--layers", f"layer {unknown[0]} is not hooked; the server hooks {hooked} (--hidden-layers)")
    read: list[Layer] = list(wanted or served.hidden_layers)
    unread = [layer for layer in kept if layer not in read]
    if unread:
        raise InputError(
            "--keep", f"layer {unread[0]} is not one of those that are fitted: {', '.join(map(str, read))}"
        )
    return read


def _how(labels: Labels, method: Method, data: str, report: VectorReport, written: Sequence[str]) -> str:
    """How a vector was fitted, in a line."""
    conditions = {"at": labels.at, "positive": labels.positive, "negative": labels.negative}
    named = "; ".join(
        f"{name} {shortened(json.dumps(one), 150)}" for name, one in conditions.items() if one is not None
    )
    areas = ", ".join(
        f"{one.layer} {one.separation.fitted:.3f} (random directions {one.separation.random_direction:.3f})"
        for one in report.layers[:4]
        if one.layer in written
    )
    return (
        f"{method} of {report.fitted.states} states; {named}; labels {labels.ahead} tokens ahead; {report.answers} "
        f"answers to {shortened(data, 150)}; held-out AUC {areas}"
    )


def print_report(report: VectorReport, name: str, made: Artefact, form: Format) -> None:
    """What was fitted and how well each layer separates."""
    document = {"name": name, "vector": made.to_dict(), **report.to_dict()}
    splits = split_table("positive", {"fitted": report.fitted, "held out": report.held_out})
    areas = Table("layer", "norm", "of states", "held-out area under the ROC curve", "random", "shuffled", "p")
    for one in report.layers:
        found = one.separation
        areas.add_row(
            one.layer.removeprefix("layer."), f"{one.norm:.2f}", f"{one.state_norm:.2f}",
            with_interval(found.fitted, found.interval), f"{found.random_direction:.3f}",
            f"{found.shuffled_labels:.3f}", f"{found.p_value:.3f}",
        )  # fmt: skip
    areas.add_row("position alone", "", "", with_interval(report.position.area, report.position.interval), "", "", "")
    print_data(form, document, [document], [splits, areas])
    if form is Format.TABLE:
        kept = [one for one in report.layers if one.layer in made.tensors]
        print("\n" + "\n".join(verdict(report, one, name) for one in kept))


def verdict(report: VectorReport, one: LayerReport, name: str) -> str:
    """What the figures of a layer say, in a sentence."""
    subject = f"{name} at {one.layer.replace('.', ' ')}"
    if not one.separation.beats_chance:
        return f"{subject} does not tell the two apart better than chance here: do not steer with it."
    if one.separation.interval[0] <= report.position.area:
        return (
            f"{subject} tells the two apart better than chance, but not clearly better than the token's position does: "
            "it may only count tokens."
        )
    return (
        f"{subject} tells the two apart better than chance, and better than the token's position does. Whether it "
        "steers is another question: compare it with its placebo (`forkpoint ab`)."
    )
