"""Regenerates the pictures of docs/viewer.md: `make pictures`. A real server and browser, fixed prompts and seeds."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.integration.e2e.viewer_page import run_of, settled, submit, visit
from tests.processes.chromium import chromium
from tests.processes.forkpoint_server import Server, serving

FOLDER = Path(__file__).parents[1] / "docs" / "viewer"
COLOURS = 256
HARD = "Use 3, 7, 2, 5 to make 24."


def one_run(page: Page) -> None:
    submit(page, HARD, "nowait")
    settled(page)
    run_of(page).locator(".text .token.acted").nth(3).hover()


def two_policies(page: Page) -> None:
    submit(page, HARD, "none", "nowait")
    settled(page)
    page.mouse.move(2, 2)


def tree(page: Page) -> None:
    submit(page, HARD, "branch-at-forks", answers="6", most="400")
    settled(page)
    run_of(page).locator(".tree [role=treeitem] .reach").nth(2).click()
    page.mouse.move(2, 2)


def narrow(page: Page) -> None:
    submit(page, HARD, "nowait")
    settled(page)
    run_of(page).locator(".text .token.fork").nth(4).click()


def policy_editor(page: Page) -> None:
    page.evaluate("location.hash = '#/policies?edit=nowait'")
    page.locator(".matched-token").first.wait_for()


def policy_cards(page: Page) -> None:
    page.evaluate("location.hash = '#/policies'")
    page.locator("[data-policy=nowait]").wait_for()


PICTURES: dict[str, tuple[Callable[[Page], None], tuple[int, int], Any]] = {
    "light": (one_run, (1200, 780), "light"),
    "dark": (two_policies, (1200, 960), "dark"),
    "two-policies": (two_policies, (1200, 960), "light"),
    "tree": (tree, (1200, 900), "light"),
    "narrow": (narrow, (360, 900), "light"),
    "policies": (policy_cards, (1200, 800), "dark"),
    "editor": (policy_editor, (1200, 720), "light"),
}


def take(browser: Browser, server: Server, name: str) -> None:
    """Take one picture and reduce its palette to COLOURS."""
    do, (width, height), scheme = PICTURES[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    visit(page, server)
    do(page)
    page.wait_for_timeout(300)
    screenshot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    screenshot.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
    page.close()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, chromium() as browser:
        for name in PICTURES:
            take(browser, server, name)


if __name__ == "__main__":
    main()
