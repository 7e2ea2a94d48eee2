"""How much of the browser's main thread a long trace takes: `python -m benchmarks.console`.

The console's own files in a headless Chromium, with a made trace in place of a server. Times are CPU time of the page's
main thread, so that other processes do not count.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, CDPSession, Page, Route

from forkpoint_server.routes.viewer import PAGE
from tests.integration.e2e.console_page import long_trace
from tests.processes.chromium import chromium

ORIGIN = "http://console.test"
LENGTHS = (2_000, 16_000, 32_000)
REPEATS = 5
KEYS = ("]", "ArrowRight", "[", "End")
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
MODEL = {"id": "made", "parent": None, "max_model_len": 40_000}
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/models": {"data": [MODEL]}, "/v1/policies": {"data": []}, "/v1/policies/connectors": {"data": []},
    "/v1/forks": {"data": []}, "/v1/calibration": {"fork_threshold": 0.7},
}  # fmt: skip


def server(length: int) -> Callable[[Route], None]:
    """What the page receives: its own files, and one trace of this many tokens."""
    events = f"data: {json.dumps(long_trace(length))}\n\ndata: [DONE]\n\n"

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path == "/v1/forks/long":
            route.fulfill(body=events, content_type="text/event-stream")
        elif path in ANSWERS:
            route.fulfill(json=ANSWERS[path])
        else:
            file = PAGE / (path.removeprefix("/forkpoint").lstrip("/") or "index.html")
            route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix[1:]])

    return answer


def main_thread_seconds(session: CDPSession) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def measure(page: Page, length: int) -> dict[str, float]:
    """Seconds of the main thread until the trace is seen, and for each key."""
    page.route("**/*", server(length))
    page.goto(f"{ORIGIN}/forkpoint")
    page.wait_for_selector("#content[aria-busy=false]")
    page.evaluate(FRAME)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    spent, before = {}, main_thread_seconds(session)
    page.evaluate("location.hash = '#trace=long'")
    page.wait_for_selector(".text .token[data-nats]")
    page.evaluate(FRAME)
    spent["first paint"] = main_thread_seconds(session) - before
    page.wait_for_function("() => document.querySelector('#runs').dataset.state === 'done'")
    page.locator(".text").focus()
    page.evaluate(FRAME)
    for key in KEYS:
        before = main_thread_seconds(session)
        page.keyboard.press(key)
        page.evaluate(FRAME)
        spent[key] = main_thread_seconds(session) - before
    return spent


def repeat(browser: Browser, length: int) -> dict[str, float]:
    """The medians of several fresh pages."""
    found = []
    for _ in range(REPEATS):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        found.append(measure(page, length))
        page.close()
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def main() -> None:
    print(f"| tokens | first paint, s | {' | '.join(f'{key}, ms' for key in KEYS)} |")
    print("| --- |" + " --- |" * (1 + len(KEYS)))
    with chromium() as browser:
        for length in LENGTHS:
            spent = repeat(browser, length)
            keys = " | ".join(f"{1000 * spent[key]:.0f}" for key in KEYS)
            print(f"| {length:,} | {spent['first paint']:.2f} | {keys} |", flush=True)


if __name__ == "__main__":
    main()
