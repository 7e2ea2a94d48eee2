"""The HTML report: one self-contained page, in which no part of an answer is read as HTML."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Collection
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from forkpoint_clients.ab import cautions
from forkpoint_clients.ab.arms import Arm
from forkpoint_clients.ab.comparison import ScoredAnswer, compare
from forkpoint_clients.ab.flips import flips
from forkpoint_clients.ab.report import ComparisonReport, settings, tables
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Unit
from tests.unit.clients.ab.synthetic import QUESTIONS, made

NAMES = ["none", "nowait", "<b>&x"]
BROKEN = "the scorer: <script>alert(1)</script>"


def report(names: list[str], several: Collection[str] = (), **failures: str) -> ComparisonReport:
    answers: dict[Unit, ScoredAnswer] = {}
    for seed, name in enumerate(names):
        answers |= made(name, 0.6 - 0.1 * seed, 100 + 20 * seed, seed, effect=1.0 if seed else None)
    for unit, said in zip(list(answers), failures.values(), strict=False):
        answers[unit] = ScoredAnswer(answers[unit].answer, None, said)
    configuration: dict[str, Any] = {"data": {"source": "<i>data", "questions": 40, "digest": "d"}, "samples": 3}
    configuration["arms"] = [{"name": name, "server": "http://here:8000/v1"} for name in names]
    arms = [Arm(name, None if name == "none" else "nowait") for name in names]
    compared = compare(answers, names, len(answers), multi_request_arms=several)
    items = [Item(f"q{number}", ({"role": "user", "content": f"<u>{number}</u>?"},)) for number in range(QUESTIONS)]
    return ComparisonReport(configuration, "exact", arms, compared, answers=answers, items=items)


class Reader(HTMLParser):
    """Collects what a page refers to, and checks that every opened tag is closed."""

    VOID = frozenset({"meta", "br", "img", "link", "th", "td", "tr", "dt", "dd", "li", "path", "use", "line", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return report(NAMES, first=BROKEN).page()


def test_the_page_needs_nothing_else(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    links = [reference for reference in reader.references if not reference.startswith("#")]
    assert links
    assert all(link.startswith(("http://here:8000/forkpoint#trace=", "data:text/csv;")) for link in links)
    assert not re.search(r"url\((?!#)|@import|<script|<link", page)
    assert len(reader.ids) == len(set(reader.ids)), "ids of different plots do not collide"


def test_nothing_is_taken_as_html(page: str) -> None:
    assert "<b>" not in page
    assert "<i>data" not in page
    reader = Reader()
    reader.feed(page)
    assert "<script>alert(1)</script>" in reader.text
    assert "<b>&x" in reader.text


def test_the_page_reports_the_results_and_their_cautions(page: str) -> None:
    found = report(NAMES).comparison
    reader = Reader()
    reader.feed(page)
    assert "Cautions" in reader.text
    assert "27 to 51% shorter traces are claimed" in reader.text
    assert "High entropy only suggests a fork" in reader.text
    assert found.arms[2].tokens is not None
    assert f"{found.arms[2].tokens.value:.0f} [" in reader.text
    assert "currentColor" in page
    assert "#010203" not in page


@pytest.mark.parametrize("several", [{"none"}, {"nowait"}, {"none", "nowait"}])
def test_arms_of_several_requests_are_not_in_the_caps(several: set[str]) -> None:
    page = report(["none", "nowait"], several).page()
    Reader().feed(page)
    assert ("<h2>At equal length</h2>" in page) == (len(several) == 1)
    assert page.count("<figure>") == (3 if len(several) == 1 else 1)
    assert f"An answer of {', '.join(sorted(several))} takes several requests" in page
    if several == {"nowait"}:
        (header,) = re.findall("<tr><th>cut off at.*", page)
        assert header == "<tr><th>cut off at<th>none</tr>"


def test_warnings_and_cautions_are_listed_below_the_tables() -> None:
    """In the terminal as on the page."""
    one = report(["none", "nowait"])
    said = list(one.notes())
    assert said[-1].startswith("caution about nowait: ")
    assert "27 to 51%" in said[-1]
    assert said[0] == one.verdicts[0].sentence
    assert said[1:-1] == [f"warning: {warning}" for warning in cautions.warnings(one.comparison)] != []


@pytest.mark.parametrize("names", [["none"], ["none", "nowait"]])
def test_fewer_arms(names: list[str], tmp_path: Path) -> None:
    one = report(names)
    one.write(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["scorer"] == "exact"
    assert ("Differences from none" in (tmp_path / "report.html").read_text()) == (len(names) > 1)
    assert len(tables(one.comparison)) == len(names)


def test_a_page_of_a_run_without_answers() -> None:
    names = ["none", "nowait"]
    empty = ComparisonReport(
        {"data": {"source": "d"}, "samples": 1}, "exact", [Arm(name) for name in names], compare({}, names, 10)
    )
    assert "0 of 10 answers" in empty.page()


def test_the_terminals_tables() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(*tables(report(NAMES).comparison))
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert "Differences from none, paired" in written
    assert "<b>&x" in written


def test_the_page_starts_with_a_verdict_and_the_forest_plot(page: str) -> None:
    one = report(NAMES, first=BROKEN)
    reader = Reader()
    reader.feed(page)
    for verdict in one.verdicts:
        assert verdict.sentence in " ".join(reader.text.split())
    assert page.index('class="verdicts"') < page.index("<svg") < page.index('class="warnings"') < page.index("<h2>Arms")


def test_flipped_questions_are_side_by_side_and_all_answers_are_in_the_csv(page: str) -> None:
    one = report(NAMES, first=BROKEN)
    scores = {
        (unit.question, unit.sample): scored.score or 0.0
        for unit, scored in one.answers.items()
        if unit.arm == "nowait"
    }
    pairs = [
        (scored.score, scores[unit.question, unit.sample])
        for unit, scored in one.answers.items()
        if unit.arm == "none" and scored.score is not None
    ]
    gained, lost = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
    assert min(gained, lost) > 0
    reader = Reader()
    reader.feed(page)
    assert f"nowait: {gained} gained, {lost} lost, of {len(pairs)} pairs" in reader.text
    assert page.count("<summary><strong>") == sum(
        min(50, found.gained + found.lost)
        for found in flips(one.answers, NAMES, one.items, {})
    )  # fmt: skip
    (encoded,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]*)"', page)
    rows = list(csv.DictReader(base64.b64decode(encoded).decode().splitlines()))
    assert len(rows) == len(one.answers) == 360
    assert rows[0]["failure"].startswith("the scorer: ")
    assert rows[0]["score"] == ""


def test_a_title_replaces_the_arms_names() -> None:
    one = replace(report(NAMES), title="Is <i>calm</i> better?")
    assert "<h1>Is &lt;i&gt;calm&lt;/i&gt; better?</h1>" in one.page()
    assert one.to_dict()["title"] == "Is <i>calm</i> better?"


def test_the_configuration_is_a_table() -> None:
    rows = dict(settings({"data": {"source": "d"}, "arms": [{"name": "none", "policy": None, "model": "m"}], "n": 3}))
    assert rows == {"data.source": "d", "arms.none.name": "none", "arms.none.model": "m", "n": "3"}
