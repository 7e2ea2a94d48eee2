"""The report on findings: JSON, one self-contained HTML page, and a Markdown page with its plots beside it."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.table import Table as Terminal

from forkpoint_clients.ab import cautions
from forkpoint_clients.ab.report import PAGE, RESULTS, environment
from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import Estimate

from .base import Figure, Finding, Result
from .verdict import Claim, Criterion, Form, Verdict

QUICK = "quick run: decides nothing"
"""Marks the verdicts of a run that only shows that all works."""

PLOT_INK = "#6e7781"
"""The text colour of plots in files, which do not know the page around them: legible on white and on black."""

VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


@dataclass(frozen=True)
class RetestedFinding:
    """A finding with its result, or why there is none. A `quick` run has too few questions for its verdict to count."""

    finding: Finding
    result: Result | None = None
    cannot: str = ""
    quick: bool = False

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict if self.result is not None else Verdict("undecided")

    @property
    def verdict_text(self) -> str:
        """The verdict, marked where it does not count."""
        return f"{self.verdict} ({QUICK})" if self.quick else str(self.verdict)

    @property
    def light(self) -> str:
        """The verdict as a colour's name: for, against, or neither."""
        if self.quick or self.verdict.word == "undecided":
            return "open"
        return "for" if self.verdict.word in ("reproduced", "measured") else "against"


@dataclass(frozen=True)
class FindingsReport:
    """`command` is the line that reproduces the report, `configuration` its settings, `cost` its requests, tokens and
    seconds.
    """

    tested: Sequence[RetestedFinding]
    command: str
    configuration: Mapping[str, Any]
    cost: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        report: dict[str, Any] = formatting.without_nan(
            {
                "object": "findings",
                "command": self.command,
                "configuration": self.configuration,
                "cost": self.cost,
                "findings": [_finding_to_dict(retested) for retested in self.tested],
                "general_cautions": cautions.GENERAL,
            }
        )
        return report

    def write(self, folder: Path) -> None:
        """Write `results.json` and `report.html` into the folder. Raises OSError."""
        (folder / RESULTS).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(self.page(), encoding="utf-8", errors="backslashreplace")

    def page(self) -> str:
        return self._rendered("findings.html.jinja", inline=Markup, general=cautions.GENERAL)

    def write_markdown(self, file: Path) -> None:
        """Write the Markdown page, and its plots as SVG files into a folder of its name. Raises OSError."""
        plots = [plot for retested in self.tested if retested.result is not None for plot in retested.result.plots]
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = file.with_suffix("")
        for plot in plots:
            folder.mkdir(exist_ok=True)
            (folder / f"{plot.name}.svg").write_text(_standalone(plot.svg), encoding="utf-8")
        page = self._rendered("findings.md.jinja", folder=folder.name, general=cautions.GENERAL)
        file.write_text(re.sub(r"\n{3,}", "\n\n", page).strip() + "\n", encoding="utf-8", errors="backslashreplace")

    def _rendered(self, template: str, **more: Any) -> str:
        made = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
        templates = environment()
        templates.filters["written"] = written
        templates.autoescape = not template.endswith(".md.jinja")
        return templates.get_template(template).render(
            tested=self.tested, command=self.command, configuration=self.configuration, cost=self.cost, made=made,
            interval=interval, **more,
        )  # fmt: skip


def written(figure: Figure | Criterion) -> str:
    """A figure as tables show it."""
    return form(figure.estimate, figure.form)


def form(estimate: Estimate, how: Form) -> str:
    """An estimate in one of the forms of `formatting`."""
    text: str = getattr(formatting, how)(estimate)
    return text


def interval(part: Criterion) -> str:
    """A criterion's bound: "above 0.0", in the form of its figure."""
    bound = form(Estimate(part.bound), part.form)
    return f"{part.claimed} {bound}"


def tables(tested: Sequence[RetestedFinding]) -> list[Terminal]:
    """For the terminal: each verdict with the figures that it rests on."""
    table = Terminal("finding", "verdict", "rests on", "is", "claimed", title="Findings")
    for retested in tested:
        claims = retested.result.claims if retested.result else ()
        parts = [part for claim in claims if claim.headline for part in claim.parts]
        table.add_row(
            retested.finding.name,
            retested.verdict_text,
            "\n".join(part.what for part in parts) or retested.cannot,
            "\n".join(written(part) for part in parts),
            "\n".join(interval(part) for part in parts),
        )
    return [table]


def _finding_to_dict(retested: RetestedFinding) -> dict[str, Any]:
    finding, result = retested.finding, retested.result
    data: dict[str, Any] = {
        "name": finding.name,
        "question": finding.question,
        "claim": finding.claim,
        "source": finding.source,
        "protocol": finding.protocol,
        "verdict": retested.verdict.word,
        "quick": retested.quick,
        "n_needed": retested.verdict.needed,
        "cannot": retested.cannot or None,
        "claims": [],
        "figures": [],
        "tables": [],
        "notes": [],
        "plots": [],
    }
    if result is not None:
        data["claims"] = [
            {
                "text": claim.text, "source": claim.source, "headline": claim.headline, "verdict": claim.verdict.word,
                "n_needed": claim.verdict.needed, "parts": [_criterion_to_dict(part, claim) for part in claim.parts],
            }
            for claim in result.claims
        ]  # fmt: skip
        data["figures"] = [
            {"what": figure.what, **vars(figure.estimate), "form": figure.form} for figure in result.figures
        ]
        data["tables"] = [{"title": table.title, "header": table.header, "rows": table.rows} for table in result.tables]
        data["notes"], data["plots"] = (
            result.notes,
            [{"name": plot.name, "caption": plot.caption} for plot in result.plots],
        )
    return data


def _criterion_to_dict(part: Criterion, claim: Claim) -> dict[str, Any]:
    return {
        "what": part.what,
        **vars(part.estimate),
        "form": part.form,
        "claimed": part.claimed,
        "bound": part.bound,
        "confidence": 1 - part.alpha,
        "questions": part.questions,
        "verdict": claim.verdict_of(part).word,
        "n_needed": part.verdict.needed,
    }


def _standalone(svg: str) -> str:
    """A plot for a file: with its own size and text colour."""
    view = VIEW.search(svg)
    size = f'width="{view[1]}pt" height="{view[2]}pt" ' if view else ""
    return svg.replace("<svg ", f"<svg {size}", 1).replace("currentColor", PLOT_INK)
