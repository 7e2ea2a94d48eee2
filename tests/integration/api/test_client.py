"""Our clients and commands against a real server: every route of Forkpoint's own, typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from forkpoint_clients import AsyncForkpoint, Forkpoint, forkpoint_of, policy, rule, use
from forkpoint_clients.cli import experiments, policies, watch
from forkpoint_clients.types import Progress
from forkpoint_policies.spec import Observe
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

CALM: dict[str, Any] = {"rules": [{"when": {"entropy_above": 0.3}, "do": {"temperature": 0.5}}]}
UNIT = "X-Client-Unit"
NAME = "client-try"
FILE = f"""\
name: {NAME}
unit: {UNIT}
arms:
  - {{name: plain, weight: 0.5}}
  - {{name: calm, policy: nowait, weight: 0.2}}
metrics: [{{name: correct, direction: higher, role: decision}}]
"""


@pytest.fixture
def own(server: Server) -> Iterator[Forkpoint]:
    with Forkpoint(base_url=server.api, max_retries=0) as client:
        yield client


def test_policies(own: Forkpoint) -> None:
    assert "nowait" in {policy.name for policy in own.policies.list()}
    registered = own.policies.put("client-calm", CALM)
    assert own.policies.get("client-calm").digest == registered.digest
    with Forkpoint(base_url=str(own.base_url), policy="client-calm") as calm:
        answer = calm.chat.completions.create(model="countdown", messages=MESSAGES, max_tokens=20)
    assert forkpoint_of(answer).digest == registered.digest
    with pytest.raises(openai.BadRequestError, match="rules"):
        own.policies.put("client-calm", {"rules": [{"do": {"suppres": {}}}]})
    assert own.policies.validate("nowait").valid
    assert own.policies.delete("client-calm").deleted
    with pytest.raises(openai.NotFoundError):
        own.policies.get("client-calm")


def test_an_experiment_from_a_file_to_its_end(
    own: Forkpoint, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> str:
        assert experiments.main([*arguments, "--server", server.api]) == 0
        return capsys.readouterr().out

    (tmp_path / "try.yaml").write_text(FILE)
    assert "plain 50.0%, calm 20.0%" in run("create", str(tmp_path / "try.yaml"))
    answers = [
        own.chat.completions.with_raw_response.create(
            model="countdown", messages=MESSAGES, max_tokens=20, extra_headers={UNIT: f"unit-{number}"}
        )
        for number in range(6)
    ]
    arms = [answer.headers.get("X-Forkpoint-Arm", "") for answer in answers]
    assigned = [answer.parse().id for answer, arm in zip(answers, arms, strict=True) if arm.startswith(f"{NAME}/")]
    assert assigned
    recorded = own.experiments.record(NAME, [{"request_id": one, "metrics": {"correct": 1}} for one in assigned])
    assert (recorded.stored, recorded.duplicates) == (len(assigned), 0)
    found = own.experiments.get(NAME, effects={"correct": 0.05})
    assert sum(arm.metrics["correct"]["requests"] for arm in found.figures or () if "correct" in arm.metrics) == len(
        assigned
    )
    assert found.analysis is not None
    assert {"correct", "tokens"} <= set(found.analysis["metrics"])
    assert "correct" in run("show", NAME)
    assert NAME in run("list")
    assert "calm 30.0%" in run("ramp", NAME, "calm", "0.3")
    with pytest.raises(openai.ConflictError):
        own.experiments.delete(NAME)
    with pytest.raises(openai.NotFoundError, match="request"):
        own.experiments.record(NAME, {"request_id": "chatcmpl-never", "metrics": {"correct": 1}})
    assert "is paused" in run("pause", NAME)
    assert "is stopped" in run("stop", NAME)
    assert "is deleted" in run("delete", NAME)
    assert experiments.main(["show", NAME, "--server", server.api]) == 1
    assert NAME in capsys.readouterr().err


def test_fields_of_a_request_are_arguments(own: Forkpoint) -> None:
    default = own.copy(policy=policy(rule(do=Observe()), name="marks"))
    chat = own.chat.completions.create(
        model="countdown", messages=MESSAGES, max_tokens=40, seed=3, policy="nowait", forks=True
    )
    assert chat.choices[0].message.reasoning
    summary = forkpoint_of(chat)
    assert (summary.policy, summary.interventions["suppress"].fired) == ("nowait", 40)
    assert summary.fork_points
    *_, last = own.chat.completions.create(
        model="countdown", messages=MESSAGES, max_tokens=8, policy="nowait", stream=True
    )
    assert forkpoint_of(last).tokens == 8
    text = default.completions.create(model="countdown", prompt="Use 3", max_tokens=8)
    response = default.responses.create(model="countdown", input="Use 3, 7, 2 to make 17.", max_output_tokens=40)
    for one in (text, response):
        assert list(forkpoint_of(one).interventions) == ["observe"]
    other = default.completions.create(model="countdown", prompt="Use 3", max_tokens=8, policy="nowait")
    assert forkpoint_of(other).policy == "nowait", "a request's own policy, instead of the client's"


def test_a_trace_reads_as_the_response(own: Forkpoint, server: Server) -> None:
    answer = own.chat.completions.create(
        model="countdown", messages=MESSAGES, seed=1, n=3, temperature=1.0, policy="branch"
    )
    trace = own.forks.get(answer.id)
    assert trace.tree is not None
    returned = [one.message for one in answer.choices]
    assert len(returned) == 3
    said = [trace.text_of(node.index) for node in trace.tree.nodes if node.kind == "answer"]
    assert {f"{one.reasoning}</think>{one.content}" for one in returned} <= set(said)
    assert trace.reasoning.endswith("</think>")
    assert trace.text == trace.reasoning + trace.answer
    assert len(trace.to_dataframe()) == sum(len(choice.tokens) for choice in trace.choices)
    assert trace.viewer_url == f"{server.url}/forkpoint#trace={answer.id}"
    assert len(trace.plot().axes) == len(trace.choices)


def test_forks_of_an_answer_and_of_a_text(own: Forkpoint) -> None:
    answer = own.chat.completions.create(
        model="countdown", messages=MESSAGES, max_tokens=60, seed=3, temperature=1.0, extra_body={"forks": True}
    )
    trace = own.forks.get(answer.id)
    assert len(trace.choices[0].tokens) == answer.usage.completion_tokens  # type: ignore[union-attr]
    updates: list[Progress] = []
    text: dict[str, Any] = {
        "prompt": "Use 3, 7, 2 to make 17.",
        "completion": "".join(trace.choices[0].tokens),
        "max_tokens": 20,
        "most_forks": 1,
    }
    found = own.forks.find(model="countdown", progress=updates.append, verify=4, extract="last_number", **text)
    assert found.cost is not None
    assert found.cost["requests"] > 0
    assert updates[-1].done == updates[-1].total
    assert "title=" in found._repr_html_()
    with pytest.raises(openai.BadRequestError, match="extract"):
        own.forks.find(model="countdown", verify=4, extract="first_line", **text)


async def test_the_asynchronous_client(server: Server) -> None:
    async with AsyncForkpoint(base_url=server.api) as own:
        names = [policy.name async for policy in own.policies.list()]
        assert (await own.policies.get(names[0])).name == names[0]
        updates: list[Progress] = []
        answer = await own.chat.completions.create(
            model="countdown", messages=MESSAGES, max_tokens=8, policy=use("nowait", shadow=True), forks=True
        )
        assert forkpoint_of(answer).shadow
        found = await own.forks.find(model="countdown", prompt="Use 3", completion=", 7", progress=updates.append)
        assert found.choices[0].tokens


def test_commands_that_look_at_a_server(
    own: Forkpoint, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert policies.main(["list", "--server", server.api]) == 0
    assert "nowait" in capsys.readouterr().out
    own.chat.completions.create(model="countdown", messages=MESSAGES, max_tokens=20, extra_body={"policy": "observe"})
    assert watch.main(["--once", "--every", "0.2", "--server", server.api]) == 0
    reported = capsys.readouterr().out
    assert "observe" in reported
    assert "running" in reported
    assert watch.main(["--once", "--server", "http://127.0.0.1:9/v1"]) == 1
    assert "http://127.0.0.1:9/metrics" in capsys.readouterr().err
