"""`forkpoint watch`: what is made of two looks at a page that prometheus_client wrote."""

from __future__ import annotations

import io

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from rich.console import Console

from forkpoint_clients.watch.counters import ScrapeWindow, read
from forkpoint_clients.watch.view import show, sparkline


class Page:
    """Some of the server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Gauge("forkpoint_build_info", "b", ["version", "vllm"], registry=self.registry).labels("0.1.0", "0.32.0").set(1)
        self.requests = Counter("forkpoint_requests", "r", ["policy", "arm", "finish_reason"], registry=self.registry)
        self.tokens = Counter("forkpoint_tokens", "t", ["policy", "role"], registry=self.registry)
        self.entropy = Histogram("forkpoint_token_entropy_nats", "e", ["policy", "role"], registry=self.registry)
        self.branches = Counter("forkpoint_branches", "b", ["policy", "outcome"], registry=self.registry)
        self.assigned = Counter("forkpoint_experiment_requests", "a", ["experiment", "arm"], registry=self.registry)
        self.outcomes = Summary(
            "forkpoint_experiment_outcome", "o", ["experiment", "arm", "metric"], registry=self.registry
        )

    def text(self) -> str:
        return generate_latest(self.registry).decode()


def printed(window: ScrapeWindow, page: Page, seconds: float, width: int = 160) -> str:
    output = io.StringIO()
    Console(width=width, file=output).print(show(window, window.add(read(page.text(), seconds)), "http://here"))
    return output.getvalue()


def test_figures_are_of_what_happened_in_between() -> None:
    page, window = Page(), ScrapeWindow(30)
    page.tokens.labels("nowait", "planning").inc(1000)
    window.add(read(page.text(), 100.0))
    page.tokens.labels("nowait", "planning").inc(20)
    page.tokens.labels("nowait", "execution").inc(80)
    page.requests.labels("nowait", "", "stop").inc(5)
    page.entropy.labels("nowait", "planning").observe(1.5)
    page.entropy.labels("nowait", "planning").observe(2.5)
    delta = window.add(read(page.text(), 110.0))
    assert delta.rate("forkpoint_tokens_total", role="planning") == pytest.approx(2.0)
    assert delta.rate("forkpoint_tokens_total") == pytest.approx(10.0)
    assert (
        delta.counted("forkpoint_requests_total", policy="nowait") == 5
    )  # a series that was not there before counts from 0
    assert delta.mean("forkpoint_token_entropy_nats", role="planning") == pytest.approx(2.0)
    assert delta.mean("forkpoint_token_entropy_nats", role="execution") is None
    assert delta.is_now("forkpoint_tokens_total", role="planning") == 1020


def test_a_window_forgets_what_is_old_and_what_was_before_a_restart() -> None:
    page, window = Page(), ScrapeWindow(10)
    for second in range(20):
        page.requests.labels("none", "", "stop").inc()
        delta = window.add(read(page.text(), float(second)))
    assert delta.seconds == pytest.approx(10)
    assert delta.rate("forkpoint_requests_total") == pytest.approx(1.0)
    assert len(window.along(lambda one: one.rate("forkpoint_requests_total"))) == 10
    restarted = Page()
    restarted.requests.labels("none", "", "stop").inc()
    delta = window.add(read(restarted.text(), 20.0))
    assert (delta.seconds, delta.rate("forkpoint_requests_total")) == (0, 0)


def test_all_is_shown() -> None:
    page, window = Page(), ScrapeWindow(30)
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
    page, window = Page(), ScrapeWindow(30)
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


def test_the_names_of_policies_are_no_markup() -> None:
    page, window = Page(), ScrapeWindow(30)
    page.requests.labels("[red]calm", "", "stop").inc()
    assert "[red]calm" in printed(window, page, 0.0)


def test_bars() -> None:
    assert sparkline([0.0, 0.5, None, 1.0]) == "▁▅ █"
    assert sparkline([None]) == ""
    assert sparkline([2.0, 2.0]) == "▁▁"
