"""Experiments on a real server: assignment, records, responses, outcomes, and a second server on the same database."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.schemas import BaseSchema
from sqlalchemy import Engine, select

from forkpoint_clients import Forkpoint
from forkpoint_server.experiments.assignment import hash_of, point_of, salt_of
from forkpoint_server.metrics import CHANGE_ACTIONS
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import put_policy, read_definitions, remove_policy
from forkpoint_server.store.tables import ASSIGNMENTS, ATTEMPTS, OUTCOMES
from tests.integration.polling import until
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import ADMIN_KEY, API_KEY, Server, serving
from tests.unit.server.store.rows import row

BRANCH = {"rules": [{"when": {"entropy_above": 0.1}, "do": {"branch": {"max_branches": 3}}}]}
ARMS = [{"name": "control", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}]
UNIT = "X-Unit"
"""Other tests do not send it, so none of their requests is in an experiment of these."""

EXPERIMENT_PATH = re.compile("^/v1/experiments/[^/]+")

Define = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def document(server: Server) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture
def http(server: Server, document: BaseSchema) -> Iterator[httpx.Client]:
    """A client of which all answers about experiments must be as the OpenAPI document says."""

    def check(response: httpx.Response) -> None:
        path = EXPERIMENT_PATH.sub("/v1/experiments/{name}", response.request.url.path)
        if path.startswith("/v1/experiments") and response.is_success:
            response.read()
            document[path][response.request.method].validate_response(response)

    with httpx.Client(base_url=server.api, timeout=120, event_hooks={"response": [check]}) as client:
        yield client


@pytest.fixture
def define(http: httpx.Client) -> Iterator[Define]:
    """Define experiments; they are gone after the test."""
    names = []

    def post(name: str, **fields: Any) -> dict[str, Any]:
        body = {"name": name, "arms": ARMS, "unit": UNIT, "salt": "s", **fields}
        made: dict[str, Any] = http.post("/experiments", json=body).raise_for_status().json()
        names.append(name)
        return made

    yield post
    for name in names:
        http.patch(f"/experiments/{name}", json={"status": "paused"})
        http.delete(f"/experiments/{name}").raise_for_status()


@pytest.fixture
def database(server: Server) -> Iterator[Engine]:
    """The server's own database, as another server would open it."""
    engine = open_database(f"sqlite:///{server.log.parent / 'forkpoint' / 'forkpoint.sqlite3'}")
    yield engine
    engine.dispose()


def unit_in(experiment: str, low: float, high: float) -> str:
    """A unit whose point lies there."""
    names = (f"account-{number}" for number in range(10_000))
    return next(name for name in names if low <= point_of(hash_of(salt_of(experiment, "s"), name)) < high)


def send(http: httpx.Client, unit: str | None, path: str = "/chat/completions", **body: Any) -> httpx.Response:
    headers = {} if unit is None else {UNIT: unit}
    request_body = {"model": "countdown", "max_tokens": 60, "seed": 1, **body}
    if "prompt" not in request_body and "input" not in request_body:
        request_body["messages"] = MESSAGES
    return http.post(path, headers=headers, json=request_body)


def recorded(database: Engine, name: str) -> list[Any]:
    experiment = next(one.id for one in read_definitions(database).experiments if one.name == name)
    with database.connect() as connection:
        return list(
            connection.execute(
                select(ASSIGNMENTS).where(ASSIGNMENTS.c.experiment == experiment).order_by(ASSIGNMENTS.c.created)
            )
        )


def waited(http: httpx.Client, name: str, requests: int) -> dict[str, Any]:
    """The experiment once so many requests are in its figures."""
    for _ in range(300):
        shown: dict[str, Any] = http.get(f"/experiments/{name}").raise_for_status().json()
        if sum(arm["requests"] for arm in shown["figures"]) == requests:
            return shown
        time.sleep(0.1)
    raise AssertionError(f"{requests} requests never came: {shown['figures']}")


def test_arms_are_sticky_reported_and_recorded(http: httpx.Client, define: Define, database: Engine) -> None:
    define("told")
    control, calm = unit_in("told", 0, 0.5), unit_in("told", 0.5, 1)
    stock = send(http, None, forks=False).json()
    for _ in range(2):
        response = send(http, control)
        assert (response.headers["X-Forkpoint-Arm"], response.headers.get("X-Forkpoint-Policy")) == (
            "told/control",
            None,
        )
        assert response.json().keys() == stock.keys()
        assert response.json()["choices"] == stock["choices"]  # the others' rules are evaluated, and nothing is changed
        response = send(http, calm)
        assert (response.headers["X-Forkpoint-Arm"], response.headers["X-Forkpoint-Policy"]) == ("told/calm", "nowait")
        assert response.json()["forkpoint"]["arm"] == "calm"
    named = send(http, calm, policy="observe")
    none = send(http, calm, policy="none")
    assert "X-Forkpoint-Arm" not in named.headers
    assert "forkpoint" not in none.json()
    assert "X-Forkpoint-Arm" not in send(http, None).headers
    shown = waited(http, "told", 4)
    assert [(arm["arm"], arm["requests"], arm["units"]) for arm in shown["figures"]] == [
        ("control", 2, 1),
        ("calm", 2, 1),
    ]
    rows = recorded(database, "told")
    assert [one.arm for one in rows] == ["control", "calm"] * 2
    last = response.json()
    assert rows[-1].request_id == last["id"]
    assert rows[-1].tokens == last["usage"]["completion_tokens"]
    assert rows[-1].prompt_tokens == last["usage"]["prompt_tokens"]
    assert rows[-1].finish_reason == last["choices"][0]["finish_reason"]
    assert rows[-1].mean_entropy == last["forkpoint"]["mean_entropy"]
    assert rows[-1].reasoning_tokens == last["forkpoint"]["reasoning_tokens"]
    assert 0 < rows[-1].latency_seconds < 60
    assert rows[-1].unit == hash_of(salt_of("told", "s"), calm) - 2**63
    assert calm not in map(str, rows[-1])  # the unit itself is not stored
    assert shown["analysis"]["sample_ratio"]["units"] == {"control": 1, "calm": 1}


def test_an_answer_that_is_not_as_the_document_says_is_noticed(http: httpx.Client, document: BaseSchema) -> None:
    response = http.get("/experiments")
    more = httpx.Response(200, json={**response.json(), "more": 1}, request=response.request)
    more.elapsed = response.elapsed
    with pytest.raises(Failure):
        document["/v1/experiments"]["GET"].validate_response(more)


def test_all_routes_streams_and_endings(http: httpx.Client, server: Server, define: Define, database: Engine) -> None:
    """Errors and clients that leave are recorded, too."""
    define("endings")
    calm = unit_in("endings", 0.5, 1)
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0, default_headers={UNIT: calm}) as client:
        chat = list(client.chat.completions.create(model="countdown", messages=MESSAGES, max_tokens=20, stream=True))
        assert chat[-1].model_extra is not None
        assert chat[-1].model_extra["forkpoint"]["arm"] == "calm"
        completion = client.completions.create(
            model="countdown", prompt="Use 3", max_tokens=5, extra_body={"ignore_eos": True}
        )
        answer = client.responses.create(model="countdown", input="Use 3, 7, 2 to make 17.", max_output_tokens=20)
    message = send(http, calm, "/messages").json()
    assert message["forkpoint"]["arm"] == "calm"
    wrong = send(http, calm, max_tokens=-5)
    assert (wrong.status_code, wrong.headers["X-Forkpoint-Arm"]) == (400, "endings/calm")
    with http.stream(
        "POST", "/chat/completions", headers={UNIT: calm},
        json={"model": "countdown", "messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 1900},
    ) as leaving:  # fmt: skip
        first = next(line for line in leaving.iter_lines() if line.startswith("data:"))
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            "/chat/completions", headers={UNIT: calm}, timeout=0.5,
            json={"model": "countdown", "messages": MESSAGES, "ignore_eos": True, "max_tokens": 1900},
        )  # fmt: skip
    waited(http, "endings", 7)
    found = {one.request_id: one for one in recorded(database, "endings")}
    assert {chat[0].id, completion.id, answer.id, message["id"]} <= found.keys()
    assert found[completion.id].finish_reason == "length"
    assert (found[completion.id].truncated, found[completion.id].error, found[completion.id].tokens) == (1, 0, 5)
    left = [one for one in found.values() if one.finish_reason == "abort"]
    assert [one.request_id in first for one in left] == [True, False]
    assert {(one.error, one.truncated) for one in left} == {(0, 0)}
    refused = next(one for one in found.values() if one.finish_reason == "refused")
    assert (refused.error, refused.tokens, refused.mean_entropy) == (0, 0, None)
    assert refused.request_id.startswith("unanswered-")


def test_a_request_that_an_arm_could_not_have_is_in_no_arm(http: httpx.Client, server: Server, define: Define) -> None:
    """Whichever arm it falls into, and it is served as if there were no experiment."""
    define("grown", arms=[ARMS[0], {"name": "grown", "policy": BRANCH, "weight": 0.5}])
    name = 'forkpoint_experiment_ineligible_total{experiment="grown",reason="policy"}'
    before = server.metrics().get(name, 0)
    for unit in (unit_in("grown", 0, 0.5), unit_in("grown", 0.5, 1)):
        for body in (
            {"response_format": {"type": "json_object"}},
            {"presence_penalty": 0.5},
            {"n": 99, "max_tokens": 1},
        ):
            response = send(http, unit, **body)
            assert response.status_code == 200, response.text
            assert "X-Forkpoint-Arm" not in response.headers
            assert "forkpoint" not in response.json()
        forks = send(http, unit, presence_penalty=0.5, forks=True)
        assert "X-Forkpoint-Arm" not in forks.headers
        assert (forks.json()["forkpoint"]["arm"], forks.json()["forkpoint"]["policy"]) == (None, None)
        assert "fork_points" in forks.json()["forkpoint"]
    assert server.metrics()[name] == before + 8
    branched = send(http, unit_in("grown", 0.5, 1), n=3, max_tokens=100)
    assert branched.headers["X-Forkpoint-Arm"] == "grown/grown"
    assert 1 <= len(branched.json()["choices"]) <= 3
    assert [arm["requests"] for arm in waited(http, "grown", 1)["figures"]] == [0, 1]


def test_triggers_are_the_same_requests_in_both_arms(http: httpx.Client, define: Define, database: Engine) -> None:
    """With the same seed the control arm, in shadow, says of each puzzle whether the policy acts on it."""
    rare = {"rules": [{"when": {"entropy_above": 1.2}, "do": {"temperature": 0.1}}]}
    define("rare", arms=[ARMS[0], {"name": "rare", "policy": rare, "weight": 0.5}])
    units = unit_in("rare", 0, 0.5), unit_in("rare", 0.5, 1)
    jobs = [(unit, seed) for seed in range(24) for unit in units]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda job: send(http, job[0], seed=job[1], max_tokens=40).json(), jobs))
    waited(http, "rare", len(jobs))
    triggered = {one.request_id: one.triggered for one in recorded(database, "rare")}
    found = [triggered[answer["id"]] for answer in answers]
    assert found[::2] == found[1::2]
    assert set(found) == {0, 0b10}
    assert all(
        triggered[answer["id"]] == 2 * (answer["forkpoint"]["interventions"]["temperature"]["fired"] > 0)
        for answer in answers[1::2]
    )


def test_an_arm_stands_beside_its_placebo(http: httpx.Client, server: Server, define: Define, database: Engine) -> None:
    """Each dose is that of the responses, per token."""
    policies = {"control": None, "ban": "nowait", "random": "nowait.placebo"}
    arms = [{"name": name, "policy": policy, "weight": 0.3} for name, policy in policies.items()]
    define("doses", arms=arms, metrics=[{"name": "correct", "direction": "higher", "role": "decision"}])
    units = {"ban": unit_in("doses", 0.3, 0.6), "random": unit_in("doses", 0.6, 0.9)}
    doses = {}
    for arm, unit in units.items():
        answers = [send(http, unit, seed=seed, max_tokens=60).json()["forkpoint"] for seed in range(2)]
        assert {answer["arm"] for answer in answers} == {arm}
        effects = [action["effect"] for answer in answers for action in answer["interventions"].values()]
        doses[arm] = sum(effects) / sum(answer["tokens"] for answer in answers)
    assert doses["ban"] > 0
    waited(http, "doses", 4)
    with Forkpoint(base_url=server.api, api_key=API_KEY) as client:
        (pair,) = client.experiments.get("doses").placebos
    assert (pair.arm, pair.placebo) == ("ban", "random")
    assert pair.dose == pytest.approx(doses["ban"])
    assert pair.placebo_dose == pytest.approx(doses["random"])
    assert pair.ratio == pytest.approx(doses["random"] / doses["ban"])
    assert pair.ratio is not None
    assert pair.conclusion is not None
    assert ("no conclusion" in pair.conclusion) == (pair.ratio < 0.8)
    assert pair.metrics["correct"]["reason"] == "no values yet"
    assert all(one.effect is not None for one in recorded(database, "doses"))


def test_outcomes(http: httpx.Client, server: Server, define: Define, database: Engine) -> None:
    define("graded", metrics=[{"name": "correct", "direction": "higher", "role": "decision"}])
    calm = unit_in("graded", 0.5, 1)
    ids = [send(http, calm, max_tokens=3).json()["id"] for _ in range(3)]
    route = "/experiments/graded/outcomes"
    posted = http.post(route, json=[{"request_id": one, "metrics": {"correct": True, "stars": 3}} for one in ids])
    assert posted.json() == {"stored": 6, "duplicates": 0}
    assert http.post(route, json={"request_id": ids[0], "metrics": {"correct": 1}}).json() == {
        "stored": 0,
        "duplicates": 1,
    }
    other = http.post(route, json={"request_id": ids[0], "metrics": {"correct": 0}})
    assert (other.status_code, other.json()["error"]["type"]) == (409, "ConflictError")
    unknown = http.post(
        route, json=[{"request_id": ids[0], "metrics": {"late": 1}}, {"request_id": "nope", "metrics": {"late": 1}}]
    )
    assert unknown.status_code == 404
    assert "more than 90 days ago; nothing of this was stored" in unknown.json()["error"]["message"]
    wrong = http.post(route, json={"request_id": ids[0], "metrics": {"correct": "yes"}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "metrics.correct")
    assert http.post("/experiments/nope/outcomes", json={"request_id": "a", "metrics": {"x": 1}}).status_code == 404
    assert http.post(route, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    shown = waited(http, "graded", 3)
    assert shown["figures"][1]["metrics"]["stars"] == {"requests": 3, "mean": 3.0}
    assert "late" not in shown["figures"][1]["metrics"]
    analysis = shown["analysis"]["metrics"]
    assert (analysis["correct"]["role"], analysis["stars"]["role"], analysis["error"]["role"]) == (
        "decision",
        "information",
        "guardrail",
    )
    assert analysis["correct"]["arms"]["calm"]["mean"] == 1.0
    labels = 'experiment="graded",metric="stars"'
    assert server.metrics()[f'forkpoint_experiment_outcome_sum{{arm="calm",{labels}}}'] == 9
    assert server.metrics()['forkpoint_experiment_requests_total{arm="calm",experiment="graded"}'] == 3
    assert server.metrics()['forkpoint_requests_total{arm="graded/calm",finish_reason="length",policy="nowait"}'] == 3
    sized = http.get("/experiments/graded", params={"effect": "correct:0.1"}).json()
    assert sized["analysis"]["metrics"]["correct"]["arms"]["calm"]["difference"]["more_requests"]["effect"] == 0.1
    for effect in ("correct", "nope:1"):
        assert http.get("/experiments/graded", params={"effect": effect}).json()["error"]["param"] == "effect"


def test_of_a_request_that_is_sent_again_the_completed_attempt_counts(
    http: httpx.Client, server: Server, define: Define, database: Engine
) -> None:
    """A gateway keeps the X-Request-Id. Outcomes can name that, or the response."""
    define("retried")
    headers = {UNIT: unit_in("retried", 0.5, 1), "X-Request-Id": "mine-1"}
    before = server.metrics()['forkpoint_records_dropped_total{reason="duplicate"}']
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 900, "min_tokens": 800, "stream": True}
    with suppress(httpx.HTTPError), http.stream("POST", "/chat/completions", json=body, headers=headers) as first:
        next(first.iter_lines())
    until(lambda: recorded(database, "retried"))
    posted = http.post("/experiments/retried/outcomes", json={"request_id": "mine-1", "metrics": {"early": 1}})
    assert posted.json() == {"stored": 1, "duplicates": 0}
    second = http.post(
        "/chat/completions", json={**body, "stream": False, "min_tokens": 0, "max_tokens": 5}, headers=headers
    )
    assert second.json()["id"] == "chatcmpl-mine-1"
    (kept,) = until(lambda: [one for one in recorded(database, "retried") if one.finish_reason == "length"])
    assert (kept.request_id, kept.response_id, kept.tokens) == ("mine-1", "chatcmpl-mine-1", 5)
    with database.connect() as connection:
        aborted = select(ATTEMPTS).where(ATTEMPTS.c.experiment == kept.experiment)
        assert [one.finish_reason for one in connection.execute(aborted)] == ["abort"]
    both = [{"request_id": one, "metrics": {"correct": 1}} for one in ("mine-1", "chatcmpl-mine-1")]
    assert http.post("/experiments/retried/outcomes", json=both).json() == {"stored": 1, "duplicates": 1}
    (calm,) = [arm for arm in waited(http, "retried", 1)["figures"] if arm["requests"]]
    assert {name: calm["metrics"][name]["requests"] for name in ("correct", "early", "tokens")} == {
        "correct": 1, "early": 1, "tokens": 1,
    }  # fmt: skip
    assert server.metrics()['forkpoint_records_dropped_total{reason="duplicate"}'] == before


@pytest.mark.parametrize(
    ("headers", "body", "field"),
    [
        ([(UNIT, "a"), (UNIT, "b")], {}, UNIT),
        ([("X-Request-Id", "x" * 257)], {}, "X-Request-Id"),
        ([], {"request_id": "x" * 257}, "request_id"),
    ],
)
def test_what_a_request_of_an_experiment_cannot_name(
    http: httpx.Client, define: Define, headers: list[tuple[str, str]], body: dict[str, Any], field: str
) -> None:
    define("named")
    request = {"model": "countdown", "messages": MESSAGES, "max_tokens": 1, **body}
    refused = http.post("/chat/completions", headers=headers, json=request)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)
    empty = http.post("/chat/completions", headers=[(UNIT, "")], json={**request, "request_id": "short"})
    assert empty.status_code == 200


def test_a_person_keeps_the_arm_in_every_session(http: httpx.Client, define: Define, database: Engine) -> None:
    define("people", unit="user")
    for session in range(6):
        user = json.dumps({"device_id": "d", "account_uuid": "people-account", "session_id": str(session)})
        body = {"model": "countdown", "max_tokens": 2, "messages": MESSAGES, "metadata": {"user_id": user}}
        http.post("/messages", json=body).raise_for_status()
        http.post("/chat/completions", json={**body, "metadata": None, "user": user}).raise_for_status()
    send(http, None, safety_identifier="people-account", user="people-other", max_tokens=1).raise_for_status()
    until(lambda: len(recorded(database, "people")) == 13)
    assert len({(one.arm, one.unit) for one in recorded(database, "people")}) == 1


def test_a_clients_error_is_not_the_arms(http: httpx.Client, server: Server, define: Define, database: Engine) -> None:
    define("refusing")
    wrong = send(http, unit_in("refusing", 0.5, 1), temperature=-1)
    assert wrong.status_code == 400
    (row,) = until(lambda: recorded(database, "refusing"))
    assert (row.finish_reason, row.error) == ("refused", 0)
    assert server.metrics()['forkpoint_experiment_errors_total{arm="calm",experiment="refusing"}'] == 0


def test_series_of_what_is_deleted_disappear(http: httpx.Client, server: Server, define: Define) -> None:
    def series(name: str) -> list[str]:
        return [one for one in httpx.get(f"{server.url}/metrics").text.splitlines() if name in one]

    http.put("/policies/short-lived", json={"rules": [{"do": {"temperature": 0.5}}]}).raise_for_status()
    send(http, None, policy="short-lived", max_tokens=2).raise_for_status()
    assert series('policy="short-lived"')
    define("short-lived-trial")
    send(http, unit_in("short-lived-trial", 0.5, 1), max_tokens=2).raise_for_status()
    until(lambda: series("short-lived-trial"))
    http.delete("/policies/short-lived").raise_for_status()
    http.patch("/experiments/short-lived-trial", json={"status": "stopped"}).raise_for_status()
    until(lambda: not series("short-lived"))
    samples = [one for one in httpx.get(f"{server.url}/metrics").text.splitlines() if one.startswith("forkpoint_")]
    assert all('model_name="countdown"' in one for one in samples)


def changes(server: Server, kind: str) -> dict[str, float]:
    """How often things of a kind were changed, by what was done."""
    found = {
        name.partition('action="')[2].partition('"')[0]: value
        for name, value in server.metrics().items()
        if name.startswith("forkpoint_changes_total{") and f'kind="{kind}"' in name
    }
    assert found.keys() == set(CHANGE_ACTIONS[kind])
    return found


def test_changes_while_it_runs(http: httpx.Client, server: Server, define: Define) -> None:
    before = changes(server, "experiment")
    arms = [{**arm, "weight": 0.1} for arm in ARMS]
    define("ramped", arms=arms, description="slowly")
    inside, later = unit_in("ramped", 0.1, 0.2), unit_in("ramped", 0.2, 0.5)
    assert "X-Forkpoint-Arm" not in send(http, later, max_tokens=1).headers
    raised = http.patch("/experiments/ramped", json={"arms": [{"name": "control", "weight": 0.4}]})
    assert [arm["weight"] for arm in raised.json()["arms"]] == [0.4, 0.1]
    assert send(http, later, max_tokens=1).headers["X-Forkpoint-Arm"] == "ramped/control"
    assert send(http, inside, max_tokens=1).headers["X-Forkpoint-Arm"] == "ramped/calm"
    lower = http.patch("/experiments/ramped", json={"arms": [{"name": "calm", "weight": 0.05}]})
    assert (lower.status_code, lower.json()["error"]["param"]) == (400, "arms[0].weight")
    http.patch("/experiments/ramped", json={"arms": [{"name": "calm", "status": "paused"}]}).raise_for_status()
    assert "X-Forkpoint-Arm" not in send(http, inside, max_tokens=1).headers
    assert http.delete("/experiments/ramped").status_code == 409
    assert http.patch("/experiments/nope", json={"status": "paused"}).status_code == 404
    http.patch("/experiments/ramped", json={"status": "stopped"}).raise_for_status()
    assert "X-Forkpoint-Arm" not in send(http, later, max_tokens=1).headers
    assert http.patch("/experiments/ramped", json={"status": "running"}).status_code == 409
    listed = http.get("/experiments").json()
    assert listed["object"] == "list"
    assert [(one["name"], one["status"], one["description"]) for one in listed["data"]] == [
        ("ramped", "stopped", "slowly")
    ]
    done = {action: count - before[action] for action, count in changes(server, "experiment").items()}
    assert done == {"created": 1, "changed": 2, "started": 0, "paused": 0, "stopped": 1, "deleted": 0}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"arms": ARMS[:1]}, "arms"),
        ({"arms": [{**arm, "weight": 0.7} for arm in ARMS]}, "arms"),
        ({"arms": [ARMS[0], {**ARMS[1], "policy": "nope"}]}, "arms[1].policy"),
        (
            {"arms": [ARMS[0], {**ARMS[1], "policy": {"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]}}]},
            "arms[1].policy.rules[0].do.suppress.token_ids[0]",
        ),
    ],
)
def test_wrong_experiments(http: httpx.Client, fields: dict[str, Any], field: str) -> None:
    response = http.post("/experiments", json={"name": "wrong", "arms": ARMS, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
    assert http.get("/experiments/wrong").status_code == 404


def test_stored_policies(http: httpx.Client, server: Server, define: Define) -> None:
    before = changes(server, "policy")
    rules = [{"when": {"entropy_above": 0.3}, "do": {"temperature": 0.5}}]
    made = http.put("/policies/mine", json={"rules": rules})
    assert (made.status_code, made.json()["builtin"]) == (201, False)
    assert http.get("/policies/mine").json() == made.json()
    assert http.get("/models/countdown:mine").json()["parent"] == "countdown"
    assert send(http, None, policy="mine.placebo", max_tokens=1).json()["forkpoint"]["policy"] == "mine.placebo"
    experiment = define("keeps", arms=[ARMS[0], {"name": "mine", "policy": "mine", "weight": 0.5}])
    held = http.delete("/policies/mine")
    assert (held.status_code, "running experiment: keeps" in held.json()["error"]["message"]) == (409, True)
    changed = http.put("/policies/mine", json={"use": "switch-penalty", "with": {"alpha": 5}})
    assert changed.status_code == 200
    pinned = send(http, unit_in("keeps", 0.5, 1), max_tokens=1).json()["forkpoint"]["digest"]
    assert pinned == experiment["arms"][1]["digest"] == made.json()["digest"] != changed.json()["digest"]
    http.patch("/experiments/keeps", json={"status": "paused"}).raise_for_status()
    assert http.delete("/policies/mine").json()["deleted"]
    assert http.get("/policies/mine").status_code == http.delete("/policies/mine").status_code == 404
    after = changes(server, "policy")
    assert {action: after[action] - before[action] for action in after} == {"created": 1, "changed": 1, "deleted": 1}
    for name, body, status, field in (
        ("nowait", {"rules": []}, 409, "name"),
        ("validate", {"rules": []}, 400, "name"),
        ("x.placebo", {"rules": []}, 400, "name"),
        ("Bad", {"rules": []}, 400, "policy.name"),
        ("bad", {"name": "worse", "rules": []}, 400, "policy.name"),
        (
            "bad",
            {"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]},
            400,
            "policy.rules[0].do.suppress.token_ids[0]",
        ),
        ("bad", 3, 400, "body"),
    ):
        wrong = http.put(f"/policies/{name}", json=body)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (status, field)
    assert http.delete("/policies/nowait").status_code == 409


def test_what_another_server_defines_and_records(http: httpx.Client, define: Define, database: Engine) -> None:
    """Via the shared database: its policies and experiments arrive within seconds, its requests take outcomes here."""
    put_policy(database, "theirs", {"name": "theirs", "rules": [{"do": {"temperature": 0.9}}]})
    until(lambda: http.get("/policies/theirs").status_code == 200)
    remove_policy(database, "theirs", lambda experiments: None)
    until(lambda: http.get("/policies/theirs").status_code == 404)
    define("shared")
    number = next(one.id for one in read_definitions(database).experiments if one.name == "shared")
    add_assignments(database, [row(number, "theirs", "calm", server="there", created=time.time() - 60)])
    assert (
        http.post("/experiments/shared/outcomes", json={"request_id": "theirs", "metrics": {"x": 1}}).json()["stored"]
        == 1
    )
    assert waited(http, "shared", 1)["analysis"]["metrics"]["x"]["arms"]["calm"]["requests"] == 1


def test_the_admin_key_guards_what_changes_things(other_server: Server) -> None:
    """The plain key generates, and posts outcomes; the admin key does that and changes things."""
    policy: dict[str, Any] = {"rules": []}
    experiment = {"name": "guarded", "arms": [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}], "unit": UNIT}
    changes: list[tuple[str, str, Any]] = [
        ("PUT", "/policies/mine", policy),
        ("POST", "/experiments", experiment),
        ("PATCH", "/experiments/guarded", {"status": "stopped"}),
        ("DELETE", "/experiments/guarded", None),
        ("DELETE", "/policies/mine", None),
    ]
    with httpx.Client(base_url=other_server.api, timeout=60) as client:
        plain, admin = ({"Authorization": f"Bearer {key}"} for key in (API_KEY, ADMIN_KEY))
        for method, path, body in changes:
            refused = client.request(method, path, json=body, headers=plain)
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "AuthenticationError")
            assert client.request(method, path, json=body, headers=admin).is_success
            assert client.request(method, path, json=body).status_code == 401
        assert (
            client.get("/models", headers=admin).status_code
            == client.get("/experiments", headers=plain).status_code
            == 200
        )
        client.post("/experiments", json={**experiment, "name": "salted"}, headers=admin).raise_for_status()
        for path in ("/experiments", "/experiments/salted"):
            assert '"salt"' in client.get(path, headers=admin).text
            assert '"salt"' not in client.get(path, headers=plain).text
        client.patch("/experiments/salted", json={"status": "stopped"}, headers=admin).raise_for_status()
        client.delete("/experiments/salted", headers=admin).raise_for_status()
        outcome = {"request_id": "nope", "metrics": {"x": 1}}
        assert client.post("/experiments/nope/outcomes", json=outcome, headers=plain).status_code == 404


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_servers_share_an_experiment(tmp_path: Path, postgresql_url: str) -> None:
    """On one PostgreSQL: what one defines the other assigns alike, and each takes outcomes of the other's requests."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        serving(tmp_path / "a", "--database-url", postgresql_url, "--show-arms") as first,
        serving(tmp_path / "b", "--database-url", postgresql_url, "--show-arms") as second,
        httpx.Client(base_url=first.api, timeout=120) as here,
        httpx.Client(base_url=second.api, timeout=120) as there,
    ):
        here.post("/experiments", json={"name": "both", "arms": ARMS, "unit": UNIT, "salt": "s"}).raise_for_status()
        time.sleep(3)  # until both assign; a request that looks whether they do would be counted
        ids = []
        for unit in map(str, range(12)):
            answers = [send(client, unit, max_tokens=3) for client in (here, there)]
            assert answers[0].headers["X-Forkpoint-Arm"] == answers[1].headers["X-Forkpoint-Arm"]
            ids += [answer.json()["id"] for answer in answers]
        outcomes = [{"request_id": one, "metrics": {"correct": 1}} for one in ids]
        assert there.post("/experiments/both/outcomes", json=outcomes).json() == {"stored": 24, "duplicates": 0}
        assert here.post("/experiments/both/outcomes", json=outcomes).json() == {"stored": 0, "duplicates": 24}
        assert [arm["requests"] for arm in waited(here, "both", 24)["figures"]] == [
            arm["requests"] for arm in waited(there, "both", 24)["figures"]
        ]
        there.patch("/experiments/both", json={"arms": [{"name": "calm", "status": "paused"}]}).raise_for_status()
        unit = unit_in("both", 0.5, 1)
        until(lambda: "X-Forkpoint-Arm" not in send(here, unit, max_tokens=1).headers)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kill_9_of_a_server_loses_no_outcome(tmp_path: Path) -> None:
    """Killed under requests and outcomes; the next server on the same database has every acknowledged outcome."""
    url, acknowledged = f"sqlite:///{tmp_path / 'kept.sqlite3'}", dict[str, float]()

    def post(api: str, worker: int) -> None:
        with httpx.Client(base_url=api, timeout=60) as client:
            for number in range(1000):
                try:
                    answer = send(client, f"{worker}-{number}", max_tokens=2).json()
                    outcome = {"request_id": answer["id"], "metrics": {"number": number}}
                    client.post("/experiments/kept/outcomes", json=outcome).raise_for_status()
                except (httpx.TransportError, ValueError):  # killed
                    return
                acknowledged[answer["id"]] = number

    for run in range(4):
        (folder := tmp_path / str(run)).mkdir()
        with serving(folder, "--database-url", url) as running, ThreadPoolExecutor(6) as pool:
            with httpx.Client(base_url=running.api, timeout=60) as client:
                made = client.post("/experiments", json={"name": "kept", "arms": ARMS, "unit": UNIT})
                assert made.status_code == (409 if run else 201)
                known = client.get("/experiments/kept").json()["figures"]
            posted = sum(arm["metrics"].get("number", {"requests": 0})["requests"] for arm in known)
            assert posted >= len(acknowledged)
            for worker in range(6):
                pool.submit(post, running.api, worker)
            time.sleep(5 + run)
            engine = psutil.Process(running.process.pid).children(recursive=True)
            running.process.kill()
            for one in engine:  # which would stay
                with suppress(psutil.NoSuchProcess):
                    one.kill()
    database = open_database(url)
    with database.connect() as connection:
        there = {one.request_id: one.value for one in connection.execute(select(OUTCOMES))}
    database.dispose()
    print(f"{len(acknowledged)} acknowledged, {len(there)} stored")
    assert len(acknowledged) > 50
    assert {name: there.get(name) for name in acknowledged} == acknowledged
