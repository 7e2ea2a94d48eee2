"""The stack as it is shipped, on a server at work: Prometheus reads it, and each rule, alert and panel finds data."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving
from tests.processes.prometheus import MONITORING, Prometheus, program, running_prometheus

COMPOSE = yaml.safe_load((MONITORING.parent / "docker-compose.yml").read_text())
BOARD = json.loads((MONITORING / "grafana" / "dashboards" / "forkpoint.json").read_text())
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
WINDOW = "30s"
CLIENTS = 6
PATIENCE_SECONDS = 90

BRANCHING: dict[str, Any] = {"rules": [{"when": {"entropy_above": "fork"}, "do": {"branch": {}}}]}
BODIES: tuple[dict[str, Any], ...] = (
    {"policy": "nowait"}, {"policy": "nowait.placebo"}, {"policy": "budget-force"}, {"policy": "branch", "n": 3},
    {"policy": BRANCHING, "n": 2}, {"policy": {"use": "nowait", "shadow": True}},
    {"policy": "switch-penalty", "stream": True}, {"policy": "none"}, {"forks": True}, {"user": "a"}, {"user": "b"},
    {"user": "c"}, {"user": "d"}, {},
    {"user": "e", "max_tokens": 10**9}, {"user": "f", "max_tokens": 10**9}, {"user": "g", "max_tokens": 10**9},
)  # fmt: skip
"""Policies of each kind; requests that fall under the experiment, by their user; and some that are refused."""

ARMS = [{"name": "plain", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}]
EXPERIMENT = {"name": "compare", "unit": "user", "arms": ARMS}
MESSAGES = [{"role": "user", "content": "Use 3, 7, 2 to make 17."}]


@pytest.fixture(scope="module")
def stack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As the stack starts it, but that it stays when its engine dies."""
    arguments = [one for one in COMPOSE["services"]["server"]["command"] if one not in ("--host", "0.0.0.0")]
    with serving(
        tmp_path_factory.mktemp("watched"),
        *arguments,
        environment={**ONE_PROCESS, "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"},
    ) as running:
        httpx.post(f"{running.api}/experiments", json=EXPERIMENT).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def prometheus(stack_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), stack_server.url.removeprefix("http://")) as running:
        yield running


def send(server: Server, number: int) -> None:
    """One request, and what became of it."""
    body = {
        "model": "countdown",
        "messages": MESSAGES,
        "max_tokens": 120,
        "seed": number,
        **BODIES[number % len(BODIES)],
    }
    if "user" in body:
        body["user"] += str(number)  # a person each: a difference needs several in each arm
    answer = httpx.post(f"{server.api}/chat/completions", json=body, timeout=60)
    if "user" in body and answer.status_code == 200:  # in the experiment
        outcome = {"request_id": answer.json()["id"], "metrics": {"correct": number % 2}}
        httpx.post(f"{server.api}/experiments/compare/outcomes", json=outcome, timeout=60).raise_for_status()


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Clients that send one request after the other, until the block ends."""
    numbers, ending = itertools.count(), threading.Event()

    def client() -> None:
        while not ending.is_set():
            send(server, next(numbers))

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            ending.set()
    for one in clients:
        one.result()


def expressions() -> dict[str, str]:
    """Every expression of the stack, by name. Of an alert, the two sides of its comparison: nothing here fires it."""
    found = {}
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = in_grafana(target["expr"])
    for marks in BOARD["annotations"]["list"]:
        found[marks["name"]] = in_grafana(marks["expr"]).removesuffix(" > 0")
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]:
        found |= {rule["record"]: rule["record"] for rule in group["rules"]}
    for rule in ALERTS:
        sides = re.sub(r"==|>=|<=|<|>", "+", rule["expr"])
        found[rule["alert"]] = re.sub(r"offset \d+[hd]", "offset 1s", sides)
    return found


def in_grafana(expression: str) -> str:
    """What Grafana queries, with `All` chosen in each variable."""
    whole = expression.replace("$__rate_interval", WINDOW)
    for variable in BOARD["templating"]["list"]:
        whole = whole.replace(f"${variable['name']}", variable.get("allValue", ""))
    assert "$" not in whole.replace('"$1"', ""), whole  # label_replace's own
    return whole


def test_each_expression_finds_data(stack_server: Server, prometheus: Prometheus) -> None:
    queries = expressions()
    assert len(queries) > 40
    missing = set(queries)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with load(stack_server):
        while missing and time.monotonic() < deadline:
            time.sleep(1)
            missing = {one for one in missing if not any(map(math.isfinite, prometheus.values(queries[one]).values()))}
    assert not missing
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]


def test_what_one_chooses_from(prometheus: Prometheus) -> None:
    """The variables of the dashboard list what there is."""
    found = {}
    for variable in BOARD["templating"]["list"][1:]:
        called = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert called is not None
        found[variable["name"]] = set(prometheus.get(f"label/{called[2]}/values", **{"match[]": in_grafana(called[1])}))
    assert found["job"] == {"forkpoint"}
    assert found["model"] == {"countdown"}
    assert {"correct", "tokens"} <= found["metric"]
    assert found["experiment"] == {"compare"}
    assert found["policy"] == {
        "nowait", "nowait.placebo", "nowait (shadow)", "budget-force", "branch", "inline", "switch-penalty", "none",
        "observe",
    }  # fmt: skip


def test_prometheus_has_what_the_page_has(stack_server: Server, prometheus: Prometheus) -> None:
    """Nothing is running any more, so both stand still, once the page has been read again."""
    prometheus.awaited(f"up == 1 and timestamp(up) > {time.time() + 1}")
    page = stack_server.metrics()
    for name in (
        "forkpoint_requests_total", "forkpoint_tokens_total", "forkpoint_experiment_requests_total",
        "forkpoint_experiment_errors_total",
    ):  # fmt: skip
        here = sum(value for key, value in page.items() if key.startswith(f"{name}{{"))
        assert prometheus.values(f"sum({name})") == {(): here}, name
    assert not prometheus.values('{__name__=~".*_created"}')
    assert prometheus.values("sum(forkpoint_experiment_errors_total)") == {(): 0.0}  # a 400 is the client's error


def test_promtool_finds_nothing_on_ours(stack_server: Server) -> None:
    page = httpx.get(f"{stack_server.url}/metrics").text
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    remarks = checked.stderr.splitlines()
    assert remarks  # on vLLM's, so it did look
    assert all(line.startswith("vllm:") for line in remarks)


def test_the_engine_dies(stack_server: Server, prometheus: Prometheus) -> None:
    """Requests that run fail and are counted, one of them in the experiment; Prometheus still gets the page."""
    (engine,) = [
        one for one in psutil.Process(stack_server.process.pid).children(recursive=True) if "EngineCore" in one.name()
    ]
    endless = {"model": "countdown", "prompt": "Use", "max_tokens": 2000, "ignore_eos": True}
    bodies: list[dict[str, Any]] = [{**endless, "policy": "observe"}, {**endless, "user": "a"}]
    failed = 'forkpoint_requests_total{arm="",finish_reason="error",policy="observe"}'
    before = stack_server.metrics().get(failed, 0.0)
    with ThreadPoolExecutor(len(bodies)) as pool:
        running = [pool.submit(httpx.post, f"{stack_server.api}/completions", json=body, timeout=60) for body in bodies]
        while stack_server.metrics()['vllm:num_requests_running{engine="0",model_name="countdown"}'] < len(bodies):
            time.sleep(0.05)
        engine.kill()
        assert [one.result().status_code for one in running] == [500] * len(bodies)
    died = time.time()
    assert stack_server.metrics()[failed] == before + 1
    assert httpx.get(f"{stack_server.url}/health").status_code == 503
    # Also once vLLM has looked whether its engine lives, which it does every five seconds.
    assert prometheus.awaited(f"up == 1 and timestamp(up) > {died + 5}") == {
        (("__name__", "up"), ("instance", stack_server.url.removeprefix("http://")), ("job", "forkpoint")): 1.0
    }
    assert prometheus.values('sum(forkpoint_requests_total{finish_reason="error"})')[()] >= 1
    assert prometheus.values("sum(forkpoint_experiment_errors_total)") == {(): 1.0}
