"""What was found, as JSON, as one HTML page that needs nothing else, and as a Markdown page with its plots beside it."""

from __future__ import annotations

import datetime as dt
import json
import math
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
from .verdict import Criterion, Form, Verdict

PLOT_INK = "#6e7781"
"""In files, which do not know the colour of the page around them: to be read on white and on black."""

VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


@dataclass(frozen=True)
class RetestedFinding:
    """A finding with what came of it: a result, or why there is none."""

    finding: Finding
    result: Result | None = None
    cannot: str = ""

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict if self.result is not None else Verdict("undecided")


@dataclass(frozen=True)
class FindingsReport:
    """`command` is the line that makes it again, `configuration` what was asked of whom, `cost` what that took."""

    tested: Sequence[RetestedFinding]
    command: str
    configuration: Mapping[str, Any]
    cost: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = _known(
            {
                "object": "findings",
                "command": self.command,
                "configuration": self.configuration,
                "cost": self.cost,
                "findings": [_json(one) for one in self.tested],
                "general_cautions": cautions.GENERAL,
            }
        )
        return found

    def write(self, folder: Path) -> None:
        """Into `results.json` and `report.html` of the folder."""
        (folder / RESULTS).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(self.page(), encoding="utf-8", errors="backslashreplace")

    def page(self) -> str:
        return self._rendered("findings.html.jinja", inline=Markup, general=cautions.GENERAL)

    def write_markdown(self, file: Path) -> None:
        """The page, and its plots as SVG files in a folder of its name."""
        plots = [plot for one in self.tested if one.result is not None for plot in one.result.plots]
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = file.with_suffix("")
        for plot in plots:
            folder.mkdir(exist_ok=True)
            (folder / f"{plot.name}.svg").write_text(_alone(plot.svg), encoding="utf-8")
        page = self._rendered("findings.md.jinja", folder=folder.name, general=cautions.GENERAL)
        file.write_text(re.sub(r"\n{3,}", "\n\n", page).strip() + "\n", encoding="utf-8", errors="backslashreplace")

    def _rendered(self, template: str, **more: Any) -> str:
        made = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
        found = environment()
        found.filters["written"] = written
        found.autoescape = not template.endswith(".md.jinja")
        return found.get_template(template).render(
            tested=self.tested, command=self.command, configuration=self.configuration, cost=self.cost, made=made,
            interval=interval, **more,
        )  # fmt: skip


def written(one: Figure | Criterion) -> str:
    """A figure as tables have it."""
    return form(one.estimate, one.form)


def form(estimate: Estimate, how: Form) -> str:
    found: str = getattr(formatting, how)(estimate)
    return found


def interval(part: Criterion) -> str:
    """What the claim says of a part: "above 0.0", in the form of its figure."""
    bound = form(Estimate(part.bound), part.form)
    return f"{part.claimed} {bound}"


def tables(tested: Sequence[RetestedFinding]) -> list[Terminal]:
    """For the terminal: each verdict with the figures that it rests on."""
    found = Terminal("finding", "verdict", "rests on", "is", "claimed", title="Findings")
    for one in tested:
        parts = [part for claim in one.result.claims if claim.headline for part in claim.parts] if one.result else []
        found.add_row(
            one.finding.name,
            str(one.verdict),
            "\n".join(part.what for part in parts) or one.cannot,
            "\n".join(written(part) for part in parts),
            "\n".join(interval(part) for part in parts),
        )
    return [found]


def _json(one: RetestedFinding) -> dict[str, Any]:
    finding, result = one.finding, one.result
    told: dict[str, Any] = {
        "name": finding.name,
        "question": finding.question,
        "claim": finding.claim,
        "source": finding.source,
        "protocol": finding.protocol,
        "verdict": one.verdict.word,
        "n_needed": one.verdict.needed,
        "cannot": one.cannot or None,
        "claims": [],
        "figures": [],
        "tables": [],
        "notes": [],
        "plots": [],
    }
    if result is not None:
        told["claims"] = [
            {
                "text": claim.text, "source": claim.source, "headline": claim.headline, "verdict": claim.verdict.word,
                "n_needed": claim.verdict.needed, "parts": [_part(part) for part in claim.parts],
            }
            for claim in result.claims
        ]  # fmt: skip
        told["figures"] = [
            {"what": figure.what, **vars(figure.estimate), "form": figure.form} for figure in result.figures
        ]
        told["tables"] = [{"title": table.title, "header": table.header, "rows": table.rows} for table in result.tables]
        told["notes"], told["plots"] = (
            result.notes,
            [{"name": plot.name, "caption": plot.caption} for plot in result.plots],
        )
    return told


def _part(part: Criterion) -> dict[str, Any]:
    return {
        "what": part.what, **vars(part.estimate), "form": part.form, "claimed": part.claimed, "bound": part.bound,
        "confidence": 1 - part.alpha, "questions": part.questions, "verdict": part.verdict.word, "n_needed": part.verdict.needed,
    }  # fmt: skip


def _known(value: Any) -> Any:
    """As JSON has it: what is not known is null."""
    if isinstance(value, Mapping):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _alone(svg: str) -> str:
    """A plot as a file: with a size and a colour of its own."""
    found = VIEW.search(svg)
    size = f'width="{found[1]}pt" height="{found[2]}pt" ' if found else ""
    return svg.replace("<svg ", f"<svg {size}", 1).replace("currentColor", PLOT_INK)
