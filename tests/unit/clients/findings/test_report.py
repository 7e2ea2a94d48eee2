"""The report on findings: JSON, a self-contained page, and Markdown with plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from forkpoint_clients.findings.base import Result
from forkpoint_clients.findings.catalog import (
    FINDINGS,
    connectors,
    dynamics,
    entropy_law,
    sparse_forks,
)
from forkpoint_clients.findings.report import FindingsReport, RetestedFinding
from tests.unit.clients.findings.synthetic import answers_with, entropies, texts

RESULTS: Mapping[str, Callable[[], Result]] = {
    "sparse-forks": lambda: sparse_forks.conclude(texts(sparse=True, seed=0)),
    "dynamics": lambda: dynamics.conclude(texts(sparse=False, seed=0)),
    "connectors": lambda: connectors.conclude(
        {one.name: answers_with(0.5, seed=n) for n, one in enumerate(connectors.TREATMENTS)}
    ),
    "entropy-law": lambda: entropy_law.conclude(entropies(0.8, 1.6, 0.0)),
}


@cache
def report() -> FindingsReport:
    """Some findings, and one that could not be tested."""
    tested = [RetestedFinding(FINDINGS[name], make()) for name, make in RESULTS.items()]
    tested.append(RetestedFinding(FINDINGS["branching"], cannot="needs a <Forkpoint> & more"))
    configuration = {
        "model": "m",
        "data": "d.jsonl",
        "questions": 80,
        "questions_of": {"dynamics": 90},
        "scorer": "exact",
        "seed": 3,
    }
    return FindingsReport(
        tested, "forkpoint findings --seed 3", configuration, {"said": "Nothing was sent.", "tokens": 0}
    )


def test_the_report_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    found = report()
    found.write(tmp_path)
    data = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda _: pytest.fail("JSON has no NaN"))
    assert [one["name"] for one in data["findings"]] == [*RESULTS, "branching"]
    assert {one["verdict"] for one in data["findings"]} <= {"reproduced", "not reproduced", "undecided"}
    assert data["findings"][-1]["cannot"] == "needs a <Forkpoint> & more"
    assert all(one["claims"][0]["parts"] for one in data["findings"][:-1])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == sum(len(one.result.plots) for one in found.tested if one.result) == 5
    assert "needs a &lt;Forkpoint&gt; &amp; more" in page
    assert "src=" not in page
    assert all(FINDINGS[name].question in page for name in RESULTS)


def test_the_markdown_page_has_its_plots_beside_it(tmp_path: Path) -> None:
    report().write_markdown(tmp_path / "docs" / "findings.md")
    page = (tmp_path / "docs" / "findings.md").read_text()
    plots = sorted((tmp_path / "docs" / "findings").iterdir())
    assert [f"findings/{plot.name}" in page for plot in plots] == [True] * len(plots) != []
    assert all(plot.stat().st_size < 100_000 and "currentColor" not in plot.read_text() for plot in plots)
    assert "forkpoint findings --seed 3" in page
    assert "&lt;" not in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
