"""What `forkpoint evidence` does: calibration, findings and arms, one after another, in one folder."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import typer

from forkpoint_clients.ab.report import RESULTS
from forkpoint_clients.calibrate import MeasuredAnswer, digest, measure_answers, summarise
from forkpoint_clients.cli import ab, findings
from forkpoint_clients.cli.progress import progress_lines, seconds
from forkpoint_clients.cli.running import RESUMABLE, fail
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import Asker, ServerLostError, ServerRefusesError, error_message
from forkpoint_clients.evidence.page import page
from forkpoint_clients.evidence.plan import ARMS, Budget, needed_questions

NAME = "evidence"
STATE, CALIBRATION, FINDINGS, ARMS_FOLDER, PAGE = "state.json", "calibration.json", "findings", "arms", "page.md"
CALIBRATION_ANSWERS = "calibration.jsonl"


@dataclass
class Run:
    """The state of a run in a folder: its settings, and the tokens and seconds that it took so far."""

    folder: Path
    state: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, settings: dict[str, Any], command: str, data: dict[str, Any]) -> Run:
        """Start or continue the run of a folder. Raises ValueError if it holds one of other settings."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / STATE
        if not file.exists():
            return cls(folder, {"settings": settings, "command": command, "data": data, "tokens": 0, "seconds": 0.0})
        state = json.loads(file.read_text())
        changeable = {"budget_tokens", "note"}
        changed = [name for name in settings if name not in changeable and state["settings"][name] != settings[name]]
        if changed or state["data"] != data:
            differing = ", ".join(changed) or "the questions"
            raise ValueError(
                f"{folder} holds a run with another value of {differing}; choose another folder with --out"
            )
        return cls(folder, {**state, "settings": settings, "command": command})

    def save(self) -> None:
        """Write the state, and the page of what is there."""
        (self.folder / STATE).write_text(json.dumps(self.state, indent=2) + "\n")
        findings_page = self.folder / FINDINGS / "page.md"
        (self.folder / PAGE).write_text(
            page(
                self.state["settings"]["model"],
                self.state,
                self.read(CALIBRATION),
                findings_page.read_text() if findings_page.exists() else None,
                self.read(f"{ARMS_FOLDER}/{RESULTS}"),
            )
        )

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, if it is there."""
        file = self.folder / name
        if not file.exists():
            return None
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def calibration_answers(self) -> dict[int, MeasuredAnswer]:
        """The answers that a calibration of this run has measured, by their number."""
        file = self.folder / CALIBRATION_ANSWERS
        lines = file.read_text().splitlines() if file.exists() else []
        found = {}
        for line in lines:
            with suppress(json.JSONDecodeError):  # the last one may have been cut off
                answer = json.loads(line)
                entropies = np.array(answer["entropies"], np.float64)
                found[answer["number"]] = MeasuredAnswer(answer["prompt"], entropies, answer["reasoning_tokens"])
        return found

    def add_calibration_answer(self, number: int, answer: MeasuredAnswer) -> None:
        line = {
            "number": number, "prompt": answer.prompt, "reasoning_tokens": answer.reasoning_tokens,
            "entropies": answer.entropies.tolist(),
        }  # fmt: skip
        with (self.folder / CALIBRATION_ANSWERS).open("a") as file:
            file.write(f"\n{json.dumps(line)}")  # after a line that was cut off, too

    def time_left(self) -> str:
        """How long the rest of the budget would take at the speed so far."""
        left = self.state["settings"]["budget_tokens"] - self.state["tokens"]
        if not self.state["tokens"] or left <= 0:
            return ""
        return f", at most {seconds(left * self.state['seconds'] / self.state['tokens'])} left"


def measure(
    settings: dict[str, Any], api_key: str, retries: int, concurrency: int, out: Path, markdown: Path | None
) -> None:
    """Run what is missing of a folder's run, and write its page. Raises typer.Exit with the status to end with."""
    server, model, data, seed = (settings[name] for name in ("server", "model", "data", "seed"))
    budget = Budget(settings["budget_tokens"])
    try:
        items = datasets.read(data)
        about = {"questions": len(items), "digest": datasets.digest(items), **datasets.provenance(data)}
        run = Run.open(out, settings, shlex.join(["forkpoint", NAME, *_arguments(settings)]), about)
        asyncio.run(_calibrate(run, items, Asker(server, model, api_key=api_key, retries=retries), concurrency))
    except (ValueError, ServerRefusesError) as error:
        raise fail(NAME, error) from None
    except (ServerLostError, OSError) as error:
        raise fail(NAME, f"{error}\nThe same command continues.", RESUMABLE) from None
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None
    # the findings
    shared = ["--server", server, "--model", model, "--data", data, "--seed", str(seed)]
    shared += ["--concurrency", str(concurrency), "--retries", str(retries), "--api-key", api_key]
    shared += ["--scorer", settings["scorer"]] if settings["scorer"] else []
    shared += ["--max-tokens", str(settings["max_tokens"])] if settings["max_tokens"] is not None else []
    words = [*settings["findings"], *shared, "--extract", settings["extract"]]
    _findings(run, words, budget, settings["questions"], len(items))
    # the arms
    per_answer = _tokens_per_answer(run)
    used = run.state["tokens"] - _tokens_of_arms(run)  # the same when the arms continue
    count = budget.questions_of_arms(per_answer, used, min(settings["ab_questions"], len(items)))
    _say(run, f"{len(ARMS)} arms, {count} questions each")
    words = [*shared, *(word for arm in ARMS for word in ("--arm", arm)), "--limit", str(count)]
    words += ["--temperature", str(settings["temperature"])]
    _stage(run, ARMS_FOLDER, ab.main, words, lambda: _tokens_of_arms(run))
    # the page
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        text = (out / PAGE).read_text().replace("](page/", f"]({markdown.stem}/")
        markdown.write_text(text)
        if (out / FINDINGS / "page").is_dir():
            shutil.copytree(out / FINDINGS / "page", markdown.with_suffix(""), dirs_exist_ok=True)
    print(out / PAGE if markdown is None else markdown)


def _arguments(settings: dict[str, Any]) -> list[str]:
    """The options that reproduce a run, except the server."""
    words = []
    names = {"findings": "finding", "budget_tokens": "budget"}
    for name, value in settings.items():
        option = f"--{names.get(name, name).replace('_', '-')}"
        if name == "server" or value in ("", None):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [option, str(one)]
    return words


async def _calibrate(run: Run, items: list[datasets.Item], closed_asker: Asker, concurrency: int) -> None:
    """Measure the fork threshold unless that was done, and make the server use it."""
    settings, started_at = run.state["settings"], time.monotonic()
    async with closed_asker as asker:
        await asker.reach()
        if not await asker.is_forkpoint():
            raise ValueError(f"{asker.url} is not a Forkpoint server: its entropies cannot be measured")
        profile = run.read(CALIBRATION)
        if profile is None:
            run.save()  # the settings of the answers to come
            wanted, prompts = Budget(settings["budget_tokens"]).calibration, [item.messages for item in items]
            earlier = run.calibration_answers()
            measured = dict(earlier)

            def store(number: int, answer: MeasuredAnswer) -> None:
                measured[number] = answer
                run.state["tokens"] += len(answer.entropies)
                run.add_calibration_answer(number, answer)

            def progress() -> str:
                done = sum(len(answer.entropies) for answer in measured.values())
                return f"calibration, {done:,} of {wanted:,} tokens"

            try:
                async with progress_lines(NAME, progress):
                    answers = await measure_answers(
                        asker, prompts, wanted, concurrency, settings["max_tokens"], store, earlier
                    )
            finally:
                run.state["seconds"] += time.monotonic() - started_at
                run.save()
            profile = summarise(answers).to_dict(asker.model, digest(prompts))
            (run.folder / CALIBRATION).write_text(json.dumps(profile, indent=2) + "\n")
            run.save()
        await asker.client.put("/calibration", body=profile, cast_to=object)


def _findings(run: Run, arguments: list[str], budget: Budget, first: int, most: int) -> None:
    """Retest the findings: a first round, and then as many questions as they need and the budget allows."""
    pages = ["--markdown", str(run.folder / FINDINGS / "page.md")]
    used_before = run.read(CALIBRATION) or {"tokens": 0}
    count = run.state.get("grown") or first

    def tokens() -> int:
        results = run.read(f"{FINDINGS}/{RESULTS}")
        return int(results["cost"]["all_tokens"]) if results is not None else 0

    _say(run, f"findings, {count} questions")
    _stage(run, FINDINGS, findings.main, [*arguments, *pages, "--questions", str(count)], tokens)
    results = run.read(f"{FINDINGS}/{RESULTS}")
    if results is None or run.state.get("grown_within") == budget.tokens:
        return
    run.state["grown_within"] = budget.tokens
    more = budget.questions_of_findings(count, tokens(), int(used_before["tokens"]), needed_questions(results), most)
    if more > count:
        run.state["grown"] = more
        _say(run, f"findings, {more} questions: some were undecided")
        _stage(run, FINDINGS, findings.main, [*arguments, *pages, "--questions", str(more)], tokens)


def _stage(run: Run, name: str, command: Any, arguments: list[str], tokens: Any) -> None:
    """Run another command in a folder of the run, and count what it took. Raises typer.Exit if it did not complete."""
    before, started_at = tokens(), time.monotonic()
    status = command([*arguments, "--out", str(run.folder / name)])
    run.state["tokens"] += tokens() - before
    run.state["seconds"] += time.monotonic() - started_at
    run.save()
    if status:
        raise typer.Exit(status)


def _tokens_of_arms(run: Run) -> int:
    results = run.read(f"{ARMS_FOLDER}/{RESULTS}")
    if results is None:
        return 0
    return int(sum(arm["answers"] * (arm["tokens"] or {"value": 0})["value"] for arm in results["arms"]))


def _tokens_per_answer(run: Run) -> float:
    """The mean length of the answers that calibration measured."""
    profile = run.read(CALIBRATION) or {"tokens": 1, "answers": 1}
    return float(profile["tokens"] / profile["answers"])


def _say(run: Run, what: str) -> None:
    used, budget = run.state["tokens"], run.state["settings"]["budget_tokens"]
    print(f"forkpoint {NAME}: {what}; {used:,} of {budget:,} tokens{run.time_left()}", file=sys.stderr, flush=True)
