"""The tables that `forkpoint watch` shows."""

from __future__ import annotations

import io

from rich.console import Console

from forkpoint_clients.watch.counters import ScrapeWindow, read
from forkpoint_clients.watch.view import show, sparkline
from tests.unit.clients.watch.metrics_page import MetricsPage


def printed(window: ScrapeWindow, page: MetricsPage, seconds: float, width: int = 160) -> str:
    output = io.StringIO()
    Console(width=width, file=output).print(show(window, window.add(read(page.text(), seconds)), "http://here"))
    return output.getvalue()


def test_the_whole_screen() -> None:
    page, window = MetricsPage(), ScrapeWindow(30)
    printed(window, page, 0.0)
    page.requests.labels("nowait", "", "stop").inc(40)
    page.tokens.labels("nowait", "planning").inc(200)
    page.tokens.labels("nowait", "execution").inc(800)
    page.branches.labels("branch", "outvoted").inc(3)
    page.assigned.labels("try", "calm").inc(7)
    page.outcomes.labels("try", "calm", "correct").observe(1)
    page.outcomes.labels("try", "calm", "correct").observe(0)
    lines = [line.split() for line in printed(window, page, 10.0).splitlines()]
    assert ["nowait", "4.0", "100", "20", "%"] in [line[:5] for line in lines]
    assert ["branch", "0.3", "0", "3"] in lines
    assert ["try", "calm", "0.7", "7", "correct", "0.500", "(2)"] in lines


def test_a_terminal_of_80_columns_breaks_no_name_and_no_figure() -> None:
    page, window = MetricsPage(), ScrapeWindow(30)
    printed(window, page, 0.0)
    for policy in ("nowait (shadow)", "dual-temperature"):
        page.requests.labels(policy, "", "stop").inc(4000)
        page.tokens.labels(policy, "planning").inc(20_000)
        page.tokens.labels(policy, "execution").inc(80_000)
    for outcome in ("stop", "length", "outvoted", "refused"):
        page.branches.labels("branch", outcome).inc(12_345)
    lines = [line.split() for line in printed(window, page, 10.0, width=80).splitlines()]
    assert ["dual-temperature", "400.0", "10000", "20", "%"] in [line[:5] for line in lines]
    assert ["nowait", "(shadow)", "400.0", "10000"] in [line[:4] for line in lines]
    assert ["branch", "4938.0", "0", "12345", "12345", "12345", "12345"] in lines


def test_policy_names_are_not_read_as_markup() -> None:
    page, window = MetricsPage(), ScrapeWindow(30)
    page.requests.labels("[red]calm", "", "stop").inc()
    assert "[red]calm" in printed(window, page, 0.0)


def test_bars() -> None:
    assert sparkline([0.0, 0.5, None, 1.0]) == "▁▅ █"
    assert sparkline([None]) == ""
    assert sparkline([2.0, 2.0]) == "▁▁"
