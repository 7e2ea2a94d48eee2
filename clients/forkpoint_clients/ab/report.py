"""A run's report: tables for the terminal, JSON, and one self-contained HTML page."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Column, Table

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.formatting import without_nan

from . import cautions
from .arms import Arm, placebos
from .comparison import Comparison
from .dose_matching import DoseMatch
from .placebo_comparison import PlaceboComparison
from .reasoning_caps import CapComparison

RESULTS, PAGE = "results.json", "report.html"
CAPS_SHOWN = 8
FAILURES_SHOWN = 20


@dataclass(frozen=True)
class ComparisonReport:
    """The report of a run. `history` says how the run grew, where a reader must know."""

    configuration: Mapping[str, Any]
    scorer: str
    arms: Sequence[Arm]
    comparison: Comparison
    reasoning_caps: Sequence[CapComparison] = ()
    history: Sequence[str] = ()
    placebos: Sequence[PlaceboComparison] = ()
    dose_matches: Sequence[DoseMatch] = ()

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
        """Sentences to print below the tables: warnings about the answers, and cautions about each policy."""
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
        caps = list(self.comparison.caps)
        return (
            environment()
            .get_template("ab.html.jinja")
            .render(
                arms=names,
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
                plots=self._plots(names),
                made=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        )

    def _plots(self, names: Sequence[str]) -> list[dict[str, str]]:
        from . import plots

        figures, comparison = [], self.comparison
        if comparison.differences:
            caption = f"Right answers, minus {names[0]}, with 95% intervals."
            figures.append({"svg": Markup(plots.differences(comparison.differences)), "caption": caption})  # noqa: S704  # escaped there
        if comparison.caps:
            caption = "Right answers if every answer is cut off at the same number of tokens; bands are 95% intervals."
            figures.append({"svg": Markup(plots.capped(comparison.caps, names)), "caption": caption})  # noqa: S704
            caption = (
                "The same by mean length: a higher curve uses tokens better. Marks are the arms at their own length."
            )
            figures.append({"svg": Markup(plots.at_mean_length(comparison.caps, names)), "caption": caption})  # noqa: S704
        return figures


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
    ):
        templates.filters[formatter.__name__] = formatter
    return templates


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
            formatting.points(difference.correct),
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
