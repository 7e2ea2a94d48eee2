"""A page of the viewer in a real browser, which must contact no other server and log no error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect

from tests.processes.chromium import chromium
from tests.processes.forkpoint_server import Server

SECONDS = 60
expect.set_options(timeout=1000 * SECONDS)  # as the page's: what is expected may wait for the server
NOT_LOADED = "Failed to load resource"
"""What the browser logs for a refusal, however the page handles it; these are counted by their status instead."""


@dataclass
class PageLog:
    """What a page requested and complained of; `refused` are the statuses that were no success."""

    origin: str
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "blob:")):
            self.elsewhere.append(request.url)

    def response(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append(response.status)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(NOT_LOADED):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")  # no longer: while it runs, no other test can run an event loop
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page_log(server: Server) -> PageLog:
    return PageLog(server.url)


@pytest.fixture
def page(browser: Browser, page_log: PageLog) -> Iterator[Page]:
    """An empty page, in a browser that knows nothing of those before."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(1000 * SECONDS)
    opened.on("request", page_log.request)
    opened.on("response", page_log.response)
    opened.on("console", page_log.console)
    opened.on("pageerror", lambda error: page_log.complaints.append(str(error)))
    try:
        yield opened
    finally:
        context.close()
    assert page_log.elsewhere == []
    assert page_log.complaints == []
