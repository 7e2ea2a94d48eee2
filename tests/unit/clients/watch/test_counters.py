"""Scrapes of a page that prometheus_client wrote: rates, means, windows and restarts."""

from __future__ import annotations

import pytest

from forkpoint_clients.watch.counters import ScrapeWindow, read
from tests.unit.clients.watch.metrics_page import MetricsPage


def test_rates_and_means_are_of_the_time_between_scrapes() -> None:
    page, window = MetricsPage(), ScrapeWindow(30)
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
        delta.increase("forkpoint_requests_total", policy="nowait") == 5
    )  # a series that was not there before counts from 0
    assert delta.mean("forkpoint_token_entropy_nats", role="planning") == pytest.approx(2.0)
    assert delta.mean("forkpoint_token_entropy_nats", role="execution") is None
    assert delta.current("forkpoint_tokens_total", role="planning") == 1020


def test_a_window_drops_old_scrapes_and_those_before_a_restart() -> None:
    page, window = MetricsPage(), ScrapeWindow(10)
    for second in range(20):
        page.requests.labels("none", "", "stop").inc()
        delta = window.add(read(page.text(), float(second)))
    assert delta.seconds == pytest.approx(10)
    assert delta.rate("forkpoint_requests_total") == pytest.approx(1.0)
    assert len(window.along(lambda one: one.rate("forkpoint_requests_total"))) == 10
    restarted = MetricsPage()
    restarted.requests.labels("none", "", "stop").inc()
    delta = window.add(read(restarted.text(), 20.0))
    assert (delta.seconds, delta.rate("forkpoint_requests_total")) == (0, 0)


def test_a_deleted_policys_series_is_no_restart() -> None:
    page, window = MetricsPage(), ScrapeWindow(10)
    for policy in ("mine", "none"):
        page.requests.labels(policy, "", "stop").inc()
    window.add(read(page.text(), 0.0))
    page.requests.remove("mine", "", "stop")
    page.requests.labels("none", "", "stop").inc(4)
    delta = window.add(read(page.text(), 2.0))
    assert (delta.seconds, delta.rate("forkpoint_requests_total")) == (2, 2)
