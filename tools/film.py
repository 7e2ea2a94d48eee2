"""Films the console for README.md: an answer streams with and without `nowait`; then what its forks could have been.

`make film`, or `python -m tools.film FILE.gif`. A real server and browser, a fixed prompt and seed; how many frames
the stream has depends on the machine.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.integration.e2e.viewer_page import run_of, submit, visit
from tests.processes.chromium import chromium
from tests.processes.forkpoint_server import serving

FILE = Path(__file__).parents[1] / "docs" / "viewer" / "first-look.gif"
PROMPT = "Use 3, 7, 2 to make 17."
WIDTH, HEIGHT = 1000, 640
COLOURS = 64
MAX_BYTES = 1_500_000
FRAME_MILLISECONDS, READ_MILLISECONDS = 120, 3_000


@dataclass
class Film:
    """Pictures of a page, and how long each is shown."""

    page: Page
    pictures: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def take(self, milliseconds: int) -> None:
        """Add a picture; one like the last lengthens that."""
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        if self.pictures and picture == self.pictures[-1]:
            self.milliseconds[-1] += milliseconds
        else:
            self.pictures.append(picture)
            self.milliseconds.append(milliseconds)

    def save(self, file: Path) -> None:
        """Write a GIF that repeats, all frames in the last one's palette. Raises ValueError if it is too large."""
        palette = self.pictures[-1].quantize(COLOURS, dither=Image.Dither.NONE)
        first, *others = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in self.pictures]
        first.save(file, save_all=True, append_images=others, duration=self.milliseconds, loop=0, optimize=True)
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file} has {file.stat().st_size:,} bytes; {MAX_BYTES:,} are the most for a README")


def first_look(film: Film) -> None:
    page = film.page
    page.fill("#prompt", PROMPT)
    page.select_option("#policy-b", "nowait")
    page.wait_for_timeout(300)
    film.take(READ_MILLISECONDS)
    submit(page, PROMPT, policy="none", beside="nowait", seed="1")
    running = "() => document.querySelector('#runs').dataset.state === 'running'"
    page.wait_for_function(running)
    run_of(page).locator(".text .token[data-nats]").first.wait_for()
    page.evaluate("document.querySelector('#runs').scrollIntoView()")
    deadline = time.monotonic() + 60
    while page.evaluate(running) and time.monotonic() < deadline:
        film.take(FRAME_MILLISECONDS)
    film.take(READ_MILLISECONDS)
    for pointed_at in (
        run_of(page).locator(".text .token.fork[data-family]").first,
        run_of(page).locator(".text .token.fork:not([data-family])").last,
        run_of(page, "B").locator(".text .token.acted").first,
    ):
        pointed_at.hover()
        page.wait_for_timeout(300)
        film.take(READ_MILLISECONDS)


def main(file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        page.set_default_timeout(120_000)
        visit(page, server)
        film = Film(page)
        first_look(film)
        film.save(file)
    print(f"{file}: {len(film.pictures)} frames, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
