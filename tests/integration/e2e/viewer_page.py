"""What a person does on the viewer's page, and what it shows them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
from playwright.sync_api import Locator, Page, expect

from tests.processes.forkpoint_server import Server

SETTLED = "() => document.querySelector('#runs').dataset.state === 'done'"
LIVE = """count => document.querySelector('#runs').dataset.state === 'running'
    && document.querySelectorAll('.text .token[data-nats]').length >= count"""
SHOWN = """text => [...text.querySelectorAll('.token')].map(span => ({
    id: Number(span.dataset.id), nats: Number(span.dataset.nats), fork: span.classList.contains('fork'),
    acted: span.classList.contains('acted'), given: span.classList.contains('given'),
    family: span.dataset.family ?? null,
    share: Number(span.style.getPropertyValue('--share')) }))"""


def visit(page: Page, server: Server, hash: str = "") -> None:  # noqa: A002  # the address's part of this name
    page.goto(f"{server.url}/forkpoint{hash}")
    expect(page.locator("#served")).not_to_be_empty()
    expect(page.locator("#content")).to_have_attribute("aria-busy", "false")


def submit(page: Page, prompt: str, policy: str = "none", beside: str | None = None, **fields: str) -> None:
    """Fill in the form and run it, without waiting for what comes."""
    page.fill("#prompt", prompt)
    page.select_option("#policy-a", policy)
    page.select_option("#policy-b", beside or "(nothing)")
    for name, value in fields.items():
        page.fill(f"#{name}", value)
    page.click("#run")


def settled(page: Page) -> None:
    """Wait until nothing runs."""
    page.wait_for_function(SETTLED)


def run_of(page: Page, name: str = "A") -> Locator:
    return page.locator(f"[data-run={name}]")


def shown(page: Page, name: str = "A") -> list[dict[str, Any]]:
    """The tokens of the text as they are rendered."""
    found: list[dict[str, Any]] = run_of(page, name).locator(".text").evaluate(SHOWN)
    return found


def ids_shown(page: Page) -> list[str]:
    """The responses that the page's address names."""
    return parse_qs(urlsplit(page.url).fragment)["trace"]


def trace_of(server: Server, response_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.api}/forks/{response_id}").raise_for_status().json()
    return found


def families(server: Server) -> dict[int, str]:
    """The family of each connector's token: the first that has it."""
    listed = httpx.get(f"{server.api}/policies/connectors").raise_for_status().json()["data"]
    return {token: one["name"] for one in reversed(listed) for token in one["token_ids"]}


def check_shows(tokens: list[dict[str, Any]], trace: dict[str, Any], choice: int = 0) -> None:
    """The page shows this choice of a trace: tokens, entropies, forks and what the policy did."""
    expected = trace["choices"][choice]
    assert [one["id"] for one in tokens] == expected["token_ids"]
    assert [one["nats"] for one in tokens] == expected["entropies"]
    assert [one["share"] for one in tokens] == [min(nats, 2.5) / 2.5 for nats in expected["entropies"]]
    for kind, points in (("fork", trace["fork_points"]), ("acted", trace["intervention_points"])):
        assert [place for place, one in enumerate(tokens) if one[kind]] == [
            point["index"] for point in points if point["choice"] == choice
        ]


def check_steps(path: Locator, values: list[float | None]) -> None:
    """The heights of a stepped line are the known values on one scale, upwards, where tokens are pixels wide."""
    heights = re.findall(r"(?:M[\d.]+,|V)([\d.]+)(?=H)", str(path.get_attribute("d")))
    drawn = np.array([float(pixels) for pixels in heights])  # from the top
    known = np.array([value for value in values if value is not None])
    assert len(drawn) == len(known)
    slope, foot = np.polyfit(known, drawn, 1)
    assert slope < 0
    assert np.abs(drawn - (slope * known + foot)).max() <= 0.15


def body_of(post_data: str | None) -> dict[str, Any]:
    assert post_data is not None
    found: dict[str, Any] = json.loads(post_data)
    return found
