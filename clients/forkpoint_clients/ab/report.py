"""A run's report: tables for the terminal, JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Column, Table

from forkpoint_clients.evaluate import formatting

from . import cautions
from .arms import Arm
from .comparison import Comparison

RESULTS, PAGE = "results.json", "report.html"
CAPS_SHOWN = 8
FAILURES_SHOWN = 20


@dataclass(frozen=True)
class ComparisonReport:
    """What is to be told of a run."""

    configuration: Mapping[str, Any]
    scorer: str
    arms: Sequence[Arm]
    comparison: Comparison

    @property
    def cautions(self) -> dict[str, str]:
        """What is known against each arm's policy."""
        return {arm.name: arm.caution for arm in self.arms if arm.caution}

    def said(self) -> Iterator[str]:
        """What a reader of the tables must know: what the answers warn of, and what is known against each policy."""
        for warning in cautions.warnings(self.comparison):
            yield f"warning: {warning}"
        for caution, names in self._cautioned().items():
            yield f"what is known against {', '.join(names)}: {caution}"

    def _cautioned(self) -> dict[str, list[str]]:
        """The arms of each caution."""
        return {text: [name for name, one in self.cautions.items() if one == text] for text in self.cautions.values()}

    def to_dict(self) -> dict[str, Any]:
        return {
            "configuration": self.configuration,
            "scorer": self.scorer,
            **self.comparison.to_dict(),
            "warnings": cautions.warnings(self.comparison),
            "cautions": self.cautions,
            "general_cautions": cautions.GENERAL,
        }

    def write(self, folder: Path) -> None:
        """Into `results.json` and `report.html` of the folder."""
        (folder / RESULTS).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(self.page(), encoding="utf-8", errors="backslashreplace")

    def page(self) -> str:
        """The report as HTML, without anything from outside."""
        names = [arm.name for arm in self.arms]
        caps = list(self.comparison.caps)
        return (
            environment()
            .get_template("ab.html.jinja")
            .render(
                arms=names,
                comparison=self.comparison,
                configuration=self.configuration,
                scorer=self.scorer,
                warnings=cautions.warnings(self.comparison),
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

        found, comparison = [], self.comparison
        if comparison.differences:
            caption = f"What is right, less {names[0]}, with 95 % intervals."
            found.append({"svg": Markup(plots.differences(comparison.differences)), "caption": caption})  # noqa: S704  # escaped there
        if comparison.caps:
            caption = (
                "What is right when every answer is cut off at the same number of tokens; bands are 95 % intervals."
            )
            found.append({"svg": Markup(plots.capped(comparison.caps, names)), "caption": caption})  # noqa: S704
            caption = "The same by mean length: a curve above another is the better use of tokens. Marks are the arms as they answered."
            found.append({"svg": Markup(plots.at_mean_length(comparison.caps, names)), "caption": caption})  # noqa: S704
        return found


def environment() -> Environment:
    """The templates of this package; what is put into them is escaped."""
    found = Environment(
        loader=PackageLoader("forkpoint_clients"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    for written in (
        formatting.percent,
        formatting.points,
        formatting.count,
        formatting.change,
        formatting.p_value,
        formatting.plain,
        formatting.share,
    ):
        found.filters[written.__name__] = written
    return found


def tables(comparison: Comparison) -> list[Table]:
    """For the terminal: the arms, and their differences to the first."""
    arms = Table(
        Column("arm", overflow="fold"), "right", "tokens", "reasoning", "cut off", "effect", "answers", title="Arms"
    )
    for one in comparison.arms:
        failed = f", {one.errors + one.failed_scorers} without a score" if one.errors + one.failed_scorers else ""
        arms.add_row(
            one.arm, formatting.percent(one.correct), formatting.count(one.tokens), formatting.count(one.reasoning_tokens),
            formatting.share(one.truncated), formatting.plain(one.effect, 2), f"{one.answers}{failed}",
        )  # fmt: skip
    if not comparison.differences:
        return [arms]
    first = comparison.arms[0].arm
    pairs = Table(
        Column("arm", overflow="fold"),
        "right, points",
        "p (Holm)",
        "tokens",
        "at equal mean tokens",
        title=f"Differences to {first}, paired",
    )
    for two in comparison.differences:
        equal = (
            f"{formatting.points(two.equal_mean.difference)} at {two.equal_mean.tokens:.0f}"
            if two.equal_mean
            else formatting.UNKNOWN
        )
        pairs.add_row(
            two.arm,
            formatting.points(two.correct),
            formatting.p_value(two.correct_p_holm),
            formatting.change(two.tokens),
            equal,
        )
    return [arms, pairs]
