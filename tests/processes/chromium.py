"""Debian's Chromium without a window, steered by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser until the block ends. Raises RuntimeError if there is none; Playwright's own download is not used."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError(
            "the viewer's tests need Chromium, and there is no `chromium` on PATH: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
