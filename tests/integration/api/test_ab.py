"""`forkpoint ab` on a real server: killed and gone on with, cut off from it, and its figures beside the journal's."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from scipy import stats

from forkpoint_clients.ab.run import seed_of
from forkpoint_clients.evaluate.datasets import read as read_data
from forkpoint_clients.evaluate.journal import JOURNAL_FILE, read
from forkpoint_policies.tasks.countdown import Puzzle, is_correct
from tests.processes.forkpoint_server import COMMAND, Server

QUESTIONS, ARMS = 10, ("none", "nowait", "nowait.placebo")
TOTAL = QUESTIONS * len(ARMS)
RESUMABLE = 3


def command(url: str, out: Path, *more: str, dose_answers: int = 0) -> list[str]:
    arms = [part for arm in ARMS for part in ("--arm", arm)]
    return [
        str(COMMAND), "ab", "--server", url, "--data", "countdown:easy", "--limit", str(QUESTIONS), *arms,
        "--max-tokens", "300", "--dose-answers", str(dose_answers),
        "--out", str(out), *more,
    ]  # fmt: skip


def lines(out: Path) -> int:
    path = out / JOURNAL_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def generated(server: Server) -> float:
    """Requests that the server has finished."""
    return sum(value for name, value in server.metrics().items() if name.startswith("vllm:request_success_total"))


@pytest.fixture(scope="module")
def out(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its midst, and then gone on with."""
    folder = tmp_path_factory.mktemp("ab") / "run"
    before = generated(server)
    process = subprocess.Popen(
        command(server.api, folder, "--concurrency", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while lines(folder) < 1 + TOTAL // 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said.decode()
    there = lines(folder)
    assert there < 1 + TOTAL
    stored = (folder / JOURNAL_FILE).read_bytes()
    done = subprocess.run(command(server.api, folder), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert f"{there - 1} of {TOTAL} answers are there already" in done.stderr
    assert (folder / JOURNAL_FILE).read_bytes().startswith(stored[: stored.rindex(b"\n") + 1]), (
        "what was there is there"
    )
    assert generated(server) - before <= TOTAL + 2, "only requests under way are sent again"
    return folder


def test_every_question_has_one_answer_under_each_arm(out: Path) -> None:
    stored = read(out / JOURNAL_FILE)
    (configuration,), answers = stored.configurations, stored.answers
    items = read_data("countdown:easy", QUESTIONS)
    assert {(unit.question, unit.arm) for unit in answers} == {(item.id, arm) for item in items for arm in ARMS}
    assert len(answers) == TOTAL
    assert all(answer.error is None for answer in answers.values())
    for unit, answer in answers.items():
        if unit.arm == "none":
            assert answer.forkpoint is None
        else:
            assert answer.forkpoint is not None
            assert answer.forkpoint["policy"] == unit.arm
    digests = {arm["name"]: arm["digest"] for arm in configuration["arms"]}
    reported = {
        unit.arm: answer.forkpoint["digest"] for unit, answer in answers.items() if answer.forkpoint is not None
    }
    assert {**reported, "none": None} == digests


def test_the_figures_are_the_journals(out: Path) -> None:
    """Recomputed from the journal without the code that made them."""
    answers = read(out / JOURNAL_FILE).answers
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    puzzles = {
        item.id: Puzzle(tuple(item.answer["numbers"]), item.answer["target"])
        for item in read_data("countdown:easy", QUESTIONS)
    }
    of: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    for unit, answer in answers.items():
        of[unit.arm][unit.question] = (is_correct(puzzles[unit.question], answer.text), answer)
    for reported in results["arms"]:
        mine = of[reported["arm"]].values()
        assert reported["correct"]["value"] == pytest.approx(np.mean([right for right, _ in mine]))
        assert reported["tokens"]["value"] == pytest.approx(np.mean([answer.tokens for _, answer in mine]))
        assert reported["reasoning_tokens"]["value"] == pytest.approx(
            np.mean([answer.reasoning_tokens for _, answer in mine])
        )
        assert reported["truncated"]["value"] == pytest.approx(
            np.mean([answer.finish_reason == "length" for _, answer in mine])
        )
    effects = [answer.forkpoint["interventions"]["suppress"]["effect"] for _, answer in of["nowait"].values()]
    assert results["arms"][1]["effect"] == pytest.approx(np.mean(effects))
    for reported in results["differences"]:
        longer = [
            answer.tokens - of["none"][question][1].tokens for question, (_, answer) in of[reported["arm"]].items()
        ]
        interval = stats.ttest_1samp(longer, 0).confidence_interval()
        assert reported["tokens"]["value"] == pytest.approx(np.mean(longer))
        assert (reported["tokens"]["low"], reported["tokens"]["high"]) == pytest.approx((interval.low, interval.high))
    page = (out / "report.html").read_text()
    assert f"{results['arms'][1]['tokens']['value']:.0f} <br><small>[" in page
    assert "27 to 51% shorter traces are claimed" in page


def test_an_answer_can_be_had_again(server: Server, out: Path) -> None:
    """By the seed of its question, from any client."""
    import openai

    item = read_data("countdown:easy", QUESTIONS)[0]
    answers = {
        unit.arm: answer for unit, answer in read(out / JOURNAL_FILE).answers.items() if unit.question == item.id
    }
    with openai.OpenAI(base_url=server.api, api_key="none") as client:
        response = client.chat.completions.create(
            model="countdown", messages=list(item.messages), temperature=1.0, max_tokens=300,  # type: ignore[arg-type]
            seed=seed_of(0, item.id, 0), extra_body={"policy": "nowait"},
        )  # fmt: skip
    assert response.choices[0].message.model_dump()["reasoning"].split()[:3] == answers["nowait"].reasoning.split()[:3]


def test_another_configuration_is_refused(server: Server, out: Path) -> None:
    done = subprocess.run(command(server.api, out, "--seed", "5"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "seed was 0, is 5" in done.stderr


def test_a_wrong_policy_is_rejected_before_any_request(server: Server, tmp_path: Path) -> None:
    before = generated(server)
    done = subprocess.run(command(server.api, tmp_path, "--arm", "nowiat"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no policy 'nowiat'" in done.stderr
    assert generated(server) == before


@contextmanager
def proxy(url: str) -> Iterator[tuple[str, Any]]:
    """A TCP proxy before the server, and what cuts all its lines."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ends: list[socket.socket] = []

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def accept() -> None:
        try:
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((target.hostname, target.port))
                ends.extend([near, far])
                for pair in ((near, far), (far, near)):
                    Thread(target=copy, args=pair, daemon=True).start()
        except OSError:
            pass

    def cut() -> None:
        for end in (listener, *ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{port}{target.path}", cut
    finally:
        cut()


def test_a_server_that_is_lost(server: Server, tmp_path: Path) -> None:
    """What was answered holds, and the run says how to go on."""
    with proxy(server.api) as (url, cut):
        run = command(url, tmp_path, "--concurrency", "2", "--retries", "1")
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while lines(tmp_path) < 3 and process.poll() is None:
            time.sleep(0.02)
        cut()
        _, said = process.communicate(timeout=60)
    assert process.returncode == RESUMABLE, said
    assert "does not answer, after 2 tries" in said
    assert "the same command continues from there" in said
    answers = read(tmp_path / JOURNAL_FILE).answers
    assert 2 <= len(answers) < TOTAL
    assert all(answer.error is None for answer in answers.values())
    assert json.loads((tmp_path / "results.json").read_text())["answered"] == len(answers)


def test_an_early_exit_is_compared_with_a_cap_of_the_same_mean(server: Server, tmp_path: Path) -> None:
    """The cap answers the second half of the questions after all others; the same command asks nothing twice."""
    out = tmp_path / "exit"
    policy = {"rules": [{"when": {"region": "reasoning", "entropy_above": 1.0}, "do": {"end_reasoning": {}}}]}
    arguments = [
        str(COMMAND), "ab", "--server", server.api, "--data", "countdown:easy", "--limit", "6", "--arm", "none",
        "--arm", f"exit={json.dumps(policy)}", "--max-tokens", "300", "--out", str(out),
    ]  # fmt: skip
    first = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300)
    answers = read(out / JOURNAL_FILE).answers
    results = json.loads((out / "results.json").read_text())
    (found,) = results["reasoning_caps"]
    own = [unit for unit in answers if unit.arm == f"exit: reasoning-cap {found['cap']}"]
    items = [item.id for item in read_data("countdown:easy", 6)]
    assert sorted(unit.question for unit in own) == sorted(items[3:])
    assert (found["arm"], found["pairs"], len(answers)) == ("exit", 3, 6 + 6 + 3)
    assert all(answers[unit].error is None for unit in own)
    assert f"reasoning-cap {found['cap']}" in first.stderr
    assert "Early exits and a cap of the same mean" in (out / "report.html").read_text()
    before = generated(server)
    subprocess.run(arguments, check=True, capture_output=True, timeout=300)
    assert generated(server) == before
    assert json.loads((out / "results.json").read_text())["reasoning_caps"] == [found]


def test_a_weak_placebo_gets_its_policys_dose_before_the_run(server: Server, tmp_path: Path) -> None:
    """By its name, the placebo of `nowait` has a small part of its dose; the strength found is used, and stored."""

    def run() -> str:
        sent = subprocess.run(
            command(server.api, tmp_path, dose_answers=12), capture_output=True, text=True, check=False, timeout=300
        )
        assert sent.returncode == 0, sent.stderr
        return sent.stdout

    printed = run()
    assert "it is matched by dose instead" in printed + (tmp_path / "report.html").read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    (found,) = results["doses"]
    assert found["as_named"] < 0.6 * found["policy_dose"]
    assert abs(found["dose"] / found["policy_dose"] - 1) < 0.25
    (placebo,) = (arm for arm in results["configuration"]["arms"] if arm["name"] == "nowait.placebo")
    assert placebo["policy"] == {
        "use": "nowait.placebo",
        "with": {"match": "dose", "strength": found["strength"]},
    }
    (beside,) = results["placebos"]
    assert beside["ratio"] > 2 * found["as_named"] / found["policy_dose"]
    before = generated(server)
    run()
    assert generated(server) == before
    assert json.loads((tmp_path / "results.json").read_text())["doses"] == results["doses"]
