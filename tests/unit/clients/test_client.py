"""Our clients: the requests they send to Forkpoint's own routes, and how they parse the responses."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from forkpoint_clients import AsyncForkpoint, Forkpoint
from forkpoint_clients.server_address import api_url
from forkpoint_clients.types import Experiment, Outcome, Progress, Trace

POLICY = {
    "name": "calm",
    "digest": "3f9c01ab",
    "object": "policy",
    "rules": [],
    "parameters": {"bias": {"default": 1}},
    "novel": 1,
}
EXPERIMENT = {
    "object": "experiment",
    "name": "try",
    "status": "running",
    "unit": "user",
    "control": "plain",
    "arms": [
        {"name": "plain", "policy": None, "weight": 0.5, "status": "running", "shadow": False},
        {
            "name": "calm",
            "policy": {"rules": []},
            "digest": "3f9c01ab",
            "weight": 0.1,
            "status": "paused",
            "shadow": True,
        },
    ],
    "figures": [{"arm": "plain", "requests": 20, "units": 9, "metrics": {"tokens": {"requests": 20, "mean": 81.5}}}],
    "analysis": {
        "sample_ratio": {"passed": True},
        "verdict": "nothing is decided yet",
        "warnings": ["3 units are broken"],
        "placebos": [
            {
                "arm": "calm",
                "placebo": "random",
                "dose": 0.04,
                "placebo_dose": 0.01,
                "ratio": 0.25,
                "requests_without_effect": 2,
                "conclusion": "no conclusion: the placebo has 0.25 of its dose, less than 0.8",
                "metrics": {"correct": {"estimate": -0.1, "interval": [-0.2, -0.01], "verdict": None}},
            }
        ],
        "metrics": {
            "truncated": {
                "role": "guardrail",
                "warning": "read it with care",
                "arms": {
                    "plain": {"mean": 0.125, "interval": [0.1, 0.2]},
                    "calm": {
                        "mean": 0.25,
                        "interval": [None, None],
                        "difference": {
                            "estimate": 0.125,
                            "interval": [-0.1, 0.35],
                            "p_value_holm": 0.2,
                            "text": "undecided",
                            "more_requests": {"effect": 0.05, "source": "given", "requests": 12345},
                        },
                    },
                },
            }
        },
    },
}
OUTCOMES = [{"token": "So", "token_id": 5, "answers": {"17": 5}, "truncated": 2, "unanswered": 1}]
TRACE = {
    "id": "chatcmpl-1",
    "object": "trace",
    "choices": [
        {"index": 0, "tokens": ["Wait", " <b>", "\n"], "positions": [0, 1, 2], "entropies": [1.9, 0.0, 9.0]},
        {"index": 1, "tokens": [" so"], "positions": [1], "entropies": [0.5]},
    ],
    "fork_points": [
        {
            "choice": 0, "index": 0, "token": "Wait", "entropy": 1.9, "connector": "reflection", "action": "suppress",
            "alternatives": [{"token": 'So"', "probability": 0.31}],
            "verified": {"p": 0.001, "q": 0.01, "verified": True, "outcomes": OUTCOMES},
        }
    ],
    "forkpoint": {"policy": "nowait"},
    "prompt_tokens": 7,
    "cost": {"requests": 3, "tokens": 20},
    "verification": {"tried": 1, "continuations": 8, "cost": {"requests": 2, "tokens": 17}},
}  # fmt: skip

PROGRESS = {"id": "forks-1", "object": "forks.progress", "phase": "continuations", "done": 3, "total": 8}

Requests = list[tuple[str, str, Any]]


def transport(requests: Requests, status: int = 200) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        requests.append((request.method, path, json.loads(request.content) if request.content else None))
        if status != 200:
            error = {
                "error": {"message": "arms[1].weight: must be larger", "type": "Error", "param": "arms", "code": status}
            }
            return httpx2.Response(status, json=error)
        if path.endswith("/outcomes"):
            return httpx2.Response(200, json={"stored": 1, "duplicates": 0})
        if request.method == "DELETE":
            return httpx2.Response(200, json={"name": path.rpartition("/")[2], "deleted": True})
        if path.endswith("/validate"):
            return httpx2.Response(
                200, json={"valid": True, "name": "calm", "digest": "3f", "rules": [], "warnings": ["w"]}
            )
        if path == "/v1/forks" and requests[-1][2].get("stream"):
            events = "".join(f"data: {json.dumps(event)}\n\n" for event in (PROGRESS, TRACE))
            return httpx2.Response(
                200, content=events + "data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
            )
        one: Any = POLICY if "/policies" in path else EXPERIMENT if "/experiments" in path else TRACE
        listed = request.method == "GET" and path.rstrip("/").endswith(("/policies", "/experiments"))
        return httpx2.Response(200, json={"object": "list", "data": [one]} if listed else one)

    return httpx2.MockTransport(answer)


def client(requests: Requests, status: int = 200) -> Forkpoint:
    return Forkpoint(http_client=httpx2.Client(transport=transport(requests, status)), max_retries=0)


EXPECTED: Requests = [
    ("GET", "/v1/policies", None),
    ("GET", "/v1/policies/a%2Fb", None),
    ("POST", "/v1/policies/validate", {"policy": "calm"}),
    ("PUT", "/v1/policies/calm", {"rules": []}),
    ("DELETE", "/v1/policies/calm", None),
    ("GET", "/v1/experiments", None),
    ("GET", "/v1/experiments/try", None),
    ("GET", "/v1/experiments/try?effect=correct%3A0.05&effect=tokens%3A10", None),
    ("POST", "/v1/experiments", {"name": "try"}),
    ("PATCH", "/v1/experiments/try", {"status": "paused"}),
    ("DELETE", "/v1/experiments/try", None),
    ("POST", "/v1/experiments/try/outcomes", {"request_id": "r", "metrics": {"correct": 1}}),
    ("POST", "/v1/experiments/try/outcomes", [{"request_id": "r", "metrics": {"correct": 1}}]),
    ("GET", "/v1/forks/chatcmpl-1", None),
    ("POST", "/v1/forks", {"model": "m", "prompt": "a", "completion": "b", "verify": 4}),
    ("POST", "/v1/forks", {"model": "m", "prompt": "a", "completion": "b", "stream": True}),
]
OUTCOME = {"request_id": "r", "metrics": {"correct": 1}}


def test_each_method_is_its_route() -> None:
    requests: Requests = []
    with client(requests) as own:
        assert [policy.name for policy in own.policies.list()] == ["calm"]
        assert own.policies.get("a/b").parameters["bias"]["default"] == 1
        assert own.policies.validate("calm").warnings == ["w"]
        assert own.policies.put("calm", {"rules": []}).digest == "3f9c01ab"
        assert own.policies.delete("calm").deleted
        assert [one.arms[1].status for one in own.experiments.list()] == ["paused"]
        found = own.experiments.get("try")
        assert found.figures is not None
        assert found.figures[0].metrics["tokens"]["mean"] == 81.5
        own.experiments.get("try", effects={"correct": 0.05, "tokens": 10})
        assert isinstance(own.experiments.create({"name": "try"}), Experiment)
        assert own.experiments.update("try", {"status": "paused"}).arms[0].weight == 0.5
        assert own.experiments.delete("try").name == "try"
        assert own.experiments.record("try", OUTCOME).stored == 1
        assert own.experiments.record("try", [OUTCOME]).duplicates == 0
        trace = own.forks.get("chatcmpl-1")
        assert trace.fork_points[0].verified is not None
        (outcome,) = trace.fork_points[0].verified.outcomes
        assert (outcome.token_id, outcome.answers, outcome.truncated, outcome.unanswered) == (5, {"17": 5}, 2, 1)
        assert (trace.prompt_tokens, trace.cost, trace.verification) == tuple(
            TRACE[name] for name in ("prompt_tokens", "cost", "verification")
        )
        assert {"prompt_tokens", "cost", "verification"} <= set(Trace.model_fields), "they are typed"
        assert {"token_id", "truncated", "unanswered"} <= set(Outcome.model_fields)
        assert own.forks.find(model="m", prompt="a", completion="b", verify=4).choices[1].entropies == [0.5]
        reported: list[Progress] = []
        assert own.forks.find(model="m", prompt="a", completion="b", progress=reported.append).choices[1].entropies == [
            0.5
        ]
        assert [(one.phase, one.done, one.total) for one in reported] == [("continuations", 3, 8)]
    assert requests == EXPECTED


async def test_asynchronous_methods_send_the_same_requests() -> None:
    requests: Requests = []
    async with AsyncForkpoint(http_client=httpx2.AsyncClient(transport=transport(requests)), max_retries=0) as own:
        assert [policy.name async for policy in own.policies.list()] == ["calm"]
        await own.policies.get("a/b")
        await own.policies.validate("calm")
        await own.policies.put("calm", {"rules": []})
        await own.policies.delete("calm")
        assert [one.name for one in (await own.experiments.list()).data] == ["try"]
        await own.experiments.get("try")
        await own.experiments.get("try", effects={"correct": 0.05, "tokens": 10})
        await own.experiments.create({"name": "try"})
        await own.experiments.update("try", {"status": "paused"})
        await own.experiments.delete("try")
        await own.experiments.record("try", OUTCOME)
        await own.experiments.record("try", [OUTCOME])
        await own.forks.get("chatcmpl-1")
        await own.forks.find(model="m", prompt="a", completion="b", verify=4)
        reported: list[Progress] = []
        assert (
            await own.forks.find(model="m", prompt="a", completion="b", progress=reported.append)
        ).id == "chatcmpl-1"
        assert [one.done for one in reported] == [3]
    assert requests == EXPECTED


@pytest.mark.parametrize(
    ("status", "error"), [(400, openai.BadRequestError), (404, openai.NotFoundError), (409, openai.ConflictError)]
)
def test_errors_are_those_of_the_sdk(status: int, error: type[openai.APIStatusError]) -> None:
    with client([], status) as own, pytest.raises(error, match=r"arms\[1\].weight: must be larger"):
        own.experiments.update("try", {"arms": []})


def test_unknown_fields_are_preserved() -> None:
    with client([]) as own:
        assert own.policies.get("calm").to_dict()["novel"] == 1


def test_a_trace_in_a_notebook() -> None:
    page = Trace.model_validate(TRACE)._repr_html_()
    assert page.count("<div") == 2
    assert " &lt;b&gt;" in page
    assert "<b>" not in page
    assert 'title="1.90 nats; reflection; suppress; verified; &#x27;So&quot;&#x27; 0.31"' in page
    assert "rgba(255, 140, 0, 0.00)" in page
    assert "rgba(255, 140, 0, 0.75)" in page, "above 2.5 nats the colour is full"
    assert page.count("border-bottom") == 2, "the fork, and the legend's"
    assert 'title="0.50 nats"' in page, "a branch's own tokens come after those of its trunk"


def test_a_trace_without_records() -> None:
    data = {"choices": [{"index": 0, "tokens": ["a"], "positions": [], "entropies": []}], "fork_points": []}
    assert 'title=""' in Trace.model_validate(data)._repr_html_()


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("h:8000", "http://h:8000/v1"),
        ("http://h:8000/v1", "http://h:8000/v1"),
        ("https://h/openai/v1", "https://h/openai/v1"),
    ],
)
def test_a_servers_url_needs_no_v1(written: str, url: str) -> None:
    assert api_url(written) == url


def test_an_experiment_has_its_arms_beside_their_placebos() -> None:
    (pair,) = Experiment.model_validate(EXPERIMENT).placebos
    assert (pair.arm, pair.placebo, pair.dose, pair.placebo_dose, pair.ratio) == ("calm", "random", 0.04, 0.01, 0.25)
    assert pair.metrics["correct"]["estimate"] == -0.1
    assert Experiment.model_validate({**EXPERIMENT, "analysis": None}).placebos == []
    assert Experiment.model_validate({**EXPERIMENT, "analysis": {"verdict": None}}).placebos == [], "an earlier server"
