"""A run's report: tables for the terminal, JSON, and one self-contained HTML page."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from rich.table import Column, Table

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.formatting import without_nan
from forkpoint_clients.evaluate.journal import Unit

from . import cautions
from .arms import Arm, placebos
from .comparison import Comparison, ScoredAnswer
from .dose_matching import DoseMatch
from .flips import answers_csv, flips
from .placebo_comparison import PlaceboComparison
from .reasoning_caps import CapComparison
from .verdicts import ArmVerdict, marked_points, verdicts

RESULTS, PAGE = "results.json", "report.html"
CAPS_SHOWN = 8
FAILURES_SHOWN = 20


@dataclass(frozen=True)
class ComparisonReport:
    """The report of a run. `history` says how the run grew, where a reader must know.

    With `answers` and `items` the page shows which questions flipped, and offers all answers as CSV.
    """

    configuration: Mapping[str, Any]
    scorer: str
    arms: Sequence[Arm]
    comparison: Comparison
    reasoning_caps: Sequence[CapComparison] = ()
    history: Sequence[str] = ()
    placebos: Sequence[PlaceboComparison] = ()
    dose_matches: Sequence[DoseMatch] = ()
    answers: Mapping[Unit, ScoredAnswer] = field(default_factory=dict)
    items: Sequence[Item] = ()
    title: str = ""

    @property
    def verdicts(self) -> list[ArmVerdict]:
        """What the comparison says of each arm but the first."""
        return verdicts(self.comparison)

    @property
    def cautions(self) -> dict[str, str]:
        """The cautions about each arm's policy, by arm."""
        return {arm.name: arm.caution for arm in self.arms if arm.caution}

    def warnings(self) -> list[str]:
        """Warnings about the answers."""
        return [*cautions.warnings(self.comparison, placebos(self.arms)), *self.history]

    def records(self) -> list[dict[str, Any]]:
        """A record for each arm: its figures, and its difference from the first arm. None where unknown."""
        differences = {difference.arm: difference for difference in self.comparison.differences}
        arms = [without_nan(asdict(arm)) for arm in self.comparison.arms]
        return [
            arm | ({"difference": without_nan(asdict(differences[arm["arm"]]))} if arm["arm"] in differences else {})
            for arm in arms
        ]

    def notes(self) -> Iterator[str]:
        """Sentences to print below the tables: verdicts, warnings about the answers, and cautions about policies."""
        for verdict in self.verdicts:
            yield verdict.sentence
        for warning in self.warnings():
            yield f"warning: {warning}"
        for caution, names in self._cautioned().items():
            yield f"caution about {', '.join(names)}: {caution}"

    def _cautioned(self) -> dict[str, list[str]]:
        """The arms that share each caution, by its text."""
        return {
            text: [name for name in self.cautions if self.cautions[name] == text] for text in self.cautions.values()
        }

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        return {
            "configuration": self.configuration,
            "scorer": self.scorer,
            "title": self.title or None,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            **self.comparison.to_dict(),
            "reasoning_caps": [without_nan(asdict(cap)) for cap in self.reasoning_caps],
            "placebos": [{**without_nan(asdict(one)), "conclusion": one.conclusion} for one in self.placebos],
            "doses": [asdict(one) for one in self.dose_matches],
            "warnings": self.warnings(),
            "cautions": self.cautions,
            "general_cautions": cautions.GENERAL,
        }

    def write(self, folder: Path) -> None:
        """Write `results.json` and `report.html` into the folder. Raises OSError."""
        (folder / RESULTS).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(self.page(), encoding="utf-8", errors="backslashreplace")

    def page(self) -> str:
        """The report as self-contained HTML."""
        names = [arm.name for arm in self.arms]
        servers = {arm["name"]: arm["server"] for arm in self.configuration.get("arms", ())}
        table = answers_csv(self.answers).encode("utf-8", "backslashreplace") if self.answers else b""
        caps = list(self.comparison.caps)
        return (
            environment()
            .get_template("ab.html.jinja")
            .render(
                arms=names,
                title=self.title,
                verdicts=self.verdicts,
                flips=flips(self.answers, names, self.items, servers),
                csv=Markup(base64.b64encode(table).decode()),  # noqa: S704  # base64 has no markup
                settings=list(settings(self.configuration)),
                comparison=self.comparison,
                reasoning_caps=self.reasoning_caps,
                placebos=self.placebos,
                dose_matches=self.dose_matches,
                configuration=self.configuration,
                scorer=self.scorer,
                warnings=self.warnings(),
                cautions=self._cautioned(),
                general=cautions.GENERAL,
                caps=caps[len(caps) - 1 :: -max(1, len(caps) // CAPS_SHOWN)][::-1] if len(names) > 1 else [],
                failures=list(islice(self.comparison.failures.items(), FAILURES_SHOWN)),
                forest=self._forest(names),
                plots=self._plots(names),
                made=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        )

    def _forest(self, names: Sequence[str]) -> dict[str, str] | None:
        from . import plots

        if not self.comparison.differences:
            return None
        caption = f"Right answers, minus {names[0]}, with 95% intervals."
        return {"svg": Markup(plots.differences(self.comparison.differences)), "caption": caption}  # noqa: S704  # escaped there

    def _plots(self, names: Sequence[str]) -> list[dict[str, str]]:
        from . import plots

        figures: list[dict[str, str]] = []
        comparison = self.comparison
        if comparison.caps:
            caption = "Right answers if every answer is cut off at the same number of tokens; bands are 95% intervals."
            figures.append({"svg": Markup(plots.capped(comparison.caps, names)), "caption": caption})  # noqa: S704
            caption = (
                "The same by mean length: a higher curve uses tokens better. Marks are the arms at their own length."
            )
            figures.append({"svg": Markup(plots.at_mean_length(comparison.caps, names)), "caption": caption})  # noqa: S704
        return figures


def settings(configuration: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A configuration as rows of a table: nested fields by their path, lists of objects by their names."""
    for name, value in configuration.items():
        if isinstance(value, Mapping) and value:
            yield from settings(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value):
            for part in value:
                yield from settings(part, f"{prefix}{name}.{part.get('name', '')}.")
        elif value is not None:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def environment() -> Environment:
    """The templates of this package, with autoescaping and the filters of `formatting`."""
    templates = Environment(
        loader=PackageLoader("forkpoint_clients"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    for formatter in (
        formatting.percent,
        formatting.points,
        formatting.count,
        formatting.change,
        formatting.p_value,
        formatting.plain,
        formatting.share,
        marked_points,
        stacked,
    ):
        templates.filters[formatter.__name__] = formatter
    return templates


def stacked(figure: str) -> Markup:
    """A formatted figure with its interval on a second line: tables then fit the page."""
    value, bracket, interval = figure.partition(" [")
    return escape(value) + (Markup(" <br><small>[{}</small>").format(interval) if bracket else "")


def tables(
    comparison: Comparison,
    reasoning_caps: Sequence[CapComparison] = (),
    placebos: Sequence[PlaceboComparison] = (),
) -> list[Table]:
    """For the terminal: the arms, their differences from the first, those of policies from their placebos, and those of
    early exits from a cap."""
    interim = f" (interim: the first {comparison.compared} answers)" if comparison.interim else ""
    arms = Table(
        Column("arm", overflow="fold"),
        "right",
        "tokens",
        "reasoning",
        "cut off",
        "effect",
        "per token",
        "tokens a right one",
        "answers",
        title=f"Arms{interim}",
    )
    for arm in comparison.arms:
        failed = f", {arm.errors + arm.failed_scorers} without a score" if arm.errors + arm.failed_scorers else ""
        arms.add_row(
            arm.arm,
            formatting.percent(arm.correct),
            formatting.count(arm.tokens),
            formatting.count(arm.reasoning_tokens),
            formatting.share(arm.truncated),
            formatting.plain(arm.effect, 2),
            formatting.plain(arm.dose, 3),
            formatting.plain(arm.tokens_per_right, 0),
            f"{arm.answers}{failed}",
        )
    if not comparison.differences:
        return [arms]
    first = comparison.arms[0].arm
    pairs = Table(
        Column("arm", overflow="fold"),
        "right, points",
        "p (Holm)",
        "tokens",
        "cut off at equal mean tokens",
        title=f"Differences from {first}, paired{interim}",
    )
    for difference in comparison.differences:
        equal = formatting.UNKNOWN
        if (at_mean := difference.equal_mean) is not None:
            equal = f"{formatting.points(at_mean.difference)} at {at_mean.tokens:.0f}"
        pairs.add_row(
            difference.arm,
            marked_points(difference),
            formatting.p_value(difference.correct_p_holm),
            formatting.change(difference.tokens),
            equal,
        )
    more = [_placebos_table(placebos)] if placebos else []
    return [arms, pairs, *more, *([_caps_table(reasoning_caps)] if reasoning_caps else [])]


def _placebos_table(placebos: Sequence[PlaceboComparison]) -> Table:
    found = Table(
        Column("arm", overflow="fold"),
        Column("its placebo", overflow="fold"),
        "dose ratio",
        "right, points",
        "conclusion",
        title="Policies, less their placebos, paired",
    )
    for one in placebos:
        ratio = formatting.plain(one.ratio, 2)
        found.add_row(one.arm, one.placebo, ratio, formatting.points(one.correct), one.conclusion)
    return found


def _caps_table(reasoning_caps: Sequence[CapComparison]) -> Table:
    caps = Table(
        Column("arm", overflow="fold"),
        "cap",
        "right, points",
        "tokens",
        "questions",
        title="Early exits, less a reasoning-cap of the same mean",
    )
    for one in reasoning_caps:
        caps.add_row(
            one.arm,
            str(one.cap),
            formatting.points(one.correct),
            formatting.change(one.tokens),
            f"{one.questions}, the second half",
        )
    return caps
