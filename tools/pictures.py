"""Regenerates the pictures of docs/viewer.md: `make pictures`, or `python -m tools.pictures NAME…` for some of them.

A real server and browser, fixed prompts and seeds.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page

from forkpoint_policies.tasks.countdown import Puzzle, held_out_puzzles, is_correct
from tests.integration.e2e.viewer_page import run_of, settled, visit
from tests.processes.chromium import chromium
from tests.processes.forkpoint_server import COMMAND, Server, serving

FOLDER = Path(__file__).parents[1] / "docs" / "viewer"
COLOURS = 256
HARD = "Use 3, 7, 2, 5 to make 24."
EXPERIMENT = {
    "name": "no-wait", "description": "Are answers as good without reflection words?", "unit": "user",
    "arms": [{"name": "control", "weight": 0.5}, {"name": "treatment", "policy": "nowait", "weight": 0.5}],
    "metrics": [{"name": "correct", "direction": "higher", "role": "decision"},
                {"name": "tokens", "direction": "lower", "role": "information"}],
}  # fmt: skip
USERS, EXPERIMENT_TOKENS = 32, 150
STATES: dict[str, Any] = {
    "name": "watch-the-states", "rules": [
        {"when": {"readout_above": {"name": "correct", "value": 0.6}}, "do": {"observe": {}}},
        {"when": {"effective_rank_below": 20, "rank_window": 32, "rank_stride": 8}, "do": {"observe": {}}},
    ],
}  # fmt: skip
RUN = "--limit 8 --max-tokens 300 --dose-answers 0 --concurrency 16 --arm none --arm nowait"


class Shown:
    """What the pictures show, generated when the first of them needs it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._folder = folder

    @cached_property
    def traces(self) -> dict[str, str]:
        """Traces' ids by the names of the pictures."""
        wanted: dict[str, dict[str, Any]] = {
            "none": {"policy": "none", "max_tokens": 500},
            "nowait": {"policy": "nowait", "max_tokens": 500},
            "states": {"policy": STATES, "max_tokens": 300},
            "tree": {"policy": "branch-at-forks", "n": 6, "max_tokens": 400},
        }
        with ThreadPoolExecutor() as pool:
            answers = pool.map(lambda more: self._ask(HARD, 1, **more), wanted.values())
        return {name: answer["id"] for name, answer in zip(wanted, answers, strict=True)}

    @cached_property
    def experiment(self) -> str:
        """An experiment's name, with the outcomes of some users."""
        httpx.post(f"{self.server.api}/experiments", json=EXPERIMENT).raise_for_status()

        def request(number: int, puzzle: Puzzle) -> None:
            answer = self._ask(puzzle.prompt, number, user=f"user-{number}", max_tokens=EXPERIMENT_TOKENS)
            right = is_correct(puzzle, answer["choices"][0]["message"]["content"])
            outcome = {"request_id": answer["id"], "metrics": {"correct": int(right)}}
            httpx.post(f"{self.server.api}/experiments/no-wait/outcomes", json=outcome).raise_for_status()

        with ThreadPoolExecutor(USERS) as pool:
            list(pool.map(request, range(USERS), held_out_puzzles("easy", USERS)))
        return "no-wait"

    @cached_property
    def run(self) -> Path:
        """The folder of a run of `forkpoint ab`."""
        folder = self._folder / "run"
        where = ("--data", "countdown:easy", "--server", self.server.url, "--out", str(folder))
        subprocess.run([COMMAND, "ab", *where, *RUN.split()], check=True, stdout=subprocess.DEVNULL)
        return folder

    def _ask(self, prompt: str, seed: int, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": "countdown", "messages": messages, "seed": seed, "forks": True, **more}
        response = httpx.post(f"{self.server.api}/chat/completions", json=body, timeout=900)
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer


def open_traces(page: Page, shown: Shown, *names: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", "&".join(f"trace={shown.traces[name]}" for name in names))
    run_of(page).locator(".text .token[data-nats]").first.wait_for()
    settled(page)


def one_run(page: Page, shown: Shown) -> None:
    open_traces(page, shown, "nowait")
    run_of(page).locator(".text .token.acted").nth(3).hover()


def two_policies(page: Page, shown: Shown) -> None:
    open_traces(page, shown, "none", "nowait")


def tree(page: Page, shown: Shown) -> None:
    open_traces(page, shown, "tree")
    run_of(page).locator(".tree [role=treeitem] .reach").nth(2).click()
    page.mouse.move(2, 2)


def states(page: Page, shown: Shown) -> None:
    open_traces(page, shown, "states")
    run_of(page).locator(".states select").select_option("readout.correct")
    run_of(page).locator(".text .token.fork").nth(6).hover()


def narrow(page: Page, shown: Shown) -> None:
    open_traces(page, shown, "nowait")
    run_of(page).locator(".text .token.fork").nth(4).click()


def start(page: Page, shown: Shown) -> None:
    assert shown.traces
    page.reload()
    page.locator(".recent a").first.wait_for()


def policy_editor(page: Page, shown: Shown) -> None:
    page.evaluate("location.hash = '#/policies?edit=nowait'")
    page.locator(".matched-token").first.wait_for()


def experiment(page: Page, shown: Shown) -> None:
    page.evaluate("name => { location.hash = `#/experiments?name=${name}`; }", shown.experiment)
    page.locator("figure svg").wait_for()


def live(page: Page, shown: Shown) -> None:
    page.evaluate("location.hash = '#/live'")
    page.locator("#page-live .hint[aria-live]").wait_for()
    body = {"model": "countdown", "messages": [{"role": "user", "content": HARD}], "max_tokens": 60}
    for policy in ("observe", "nowait", "dual-temperature"):
        page.wait_for_timeout(2500)  # the page reads the metrics every two seconds
        httpx.post(f"{shown.server.api}/chat/completions", json={**body, "policy": policy}, timeout=120)
    page.wait_for_timeout(2500)


def runs(page: Page, shown: Shown) -> None:
    page.evaluate("location.hash = '#/runs'")
    page.set_input_files("#run-files", [shown.run / "results.json", shown.run / "journal.jsonl"])
    page.locator(".verdict-line").wait_for()


def at(name: str, ready: str) -> Callable[[Page, Shown], None]:
    """A page of this name, once what `ready` selects is there."""

    def show(page: Page, shown: Shown) -> None:
        page.evaluate("name => { location.hash = `#/${name}`; }", name)
        page.locator(ready).first.wait_for()

    return show


PICTURES: dict[str, tuple[Callable[[Page, Shown], None], tuple[int, int], Any]] = {
    "start": (start, (1200, 860), "light"),
    "light": (one_run, (1200, 780), "light"),
    "two-policies": (two_policies, (1200, 960), "light"),
    "dark": (two_policies, (1200, 960), "dark"),
    "tree": (tree, (1200, 900), "light"),
    "states": (states, (1200, 860), "light"),
    "narrow": (narrow, (390, 844), "light"),
    "traces": (at("traces", "tbody tr"), (1200, 640), "light"),
    "policies": (at("policies", "[data-policy=nowait]"), (1200, 800), "light"),
    "editor": (policy_editor, (1200, 720), "light"),
    "experiments": (experiment, (1200, 900), "light"),
    "live": (live, (1200, 640), "light"),
    "runs": (runs, (1200, 900), "light"),
    "calibration": (at("calibration", "#page-calibration .chart rect"), (1200, 640), "light"),
}


def take(browser: Browser, shown: Shown, name: str) -> None:
    """Take one picture and reduce its palette to COLOURS."""
    do, (width, height), scheme = PICTURES[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    visit(page, shown.server)
    do(page, shown)
    page.wait_for_timeout(300)
    screenshot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    screenshot.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
    page.close()


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, chromium() as browser:
        shown = Shown(server, Path(folder))
        for name in names or PICTURES:
            take(browser, shown, name)


if __name__ == "__main__":
    main(sys.argv[1:])
