"""The files of docker-compose.yml are valid and fit together. Docker itself runs in no test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboard import FILE, make
from monitoring.panels import QUESTIONS
from tests.processes.prometheus import MONITORING, program

ROOT = MONITORING.parent
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ALERTS = [rule["alert"] for rule in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]]


def run(*command: str) -> str:
    """The output of a program, which must exit with status 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_the_compose_file_is_one() -> None:
    run(installed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_hadolint_finds_nothing() -> None:
    assert run(installed("hadolint"), "Dockerfile") == ""


def test_the_dockerfile_copies_what_there_is() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]}
    assert {Path(source).parts[0] for source in copied} == let_in
    assert all((ROOT / source).exists() for source in copied)
    targets = [line.rsplit(" ", 1)[-1] for line in lines if line.startswith("FROM ")]
    assert SERVICES["server"]["build"]["target"] in targets


def test_the_services_find_each_other() -> None:
    for service in SERVICES.values():
        mounted = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert all((ROOT / folder).is_dir() for folder in mounted)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8000"]}]
    provisioning = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "forkpoint.yml").read_text())["providers"]
    mounts = {volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    assert mounts[provider["options"]["path"]] == FILE.parent


def test_promtool_takes_the_configuration() -> None:
    said = run(program("promtool"), "check", "config", "--lint=all", "--lint-fatal", "monitoring/prometheus.yml")
    assert "SUCCESS" in said


@pytest.mark.slow
def test_the_rules_do_what_their_tests_say() -> None:
    assert "SUCCESS" in run(program("promtool"), "test", "rules", "monitoring/rules_test.yml")


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}
    assert f"### {alert}\n" in (ROOT / "docs" / "monitoring.md").read_text()


def test_the_dashboard_is_what_the_code_makes() -> None:
    assert FILE.read_text() == make(), "`make dashboard` writes it anew"
    panels = json.loads(make())["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == list(QUESTIONS)
    assert sum(len(panel.get("targets", [])) for panel in panels) == sum(
        len(panel.queries) for answers in QUESTIONS.values() for panel in answers
    )
    positions = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(positions)) == len(positions)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    documented = (ROOT / "docs" / "monitoring.md").read_text()
    assert all(question in documented for question in QUESTIONS)


def test_each_alert_has_a_runbook_that_exists() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    sections = re.findall(r"^### (\w+)$", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert [rule["annotations"]["runbook"] for rule in rules] == [
        f"docs/monitoring.md#{name.lower()}" for name in ALERTS
    ]
    assert sorted(sections) == sorted(ALERTS)


def test_thresholds_are_those_of_the_alerts() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    compared = {float(bound) for rule in rules for bound in re.findall(r"[<>] ([\d.]+)(?: |$)", rule["expr"])}
    panels = [panel for row in QUESTIONS.values() for panel in row]
    bounds = {bound for panel in panels for bound in (panel.alert_above, panel.alert_below) if bound is not None}
    assert len(bounds) == 5
    assert bounds <= compared


def test_each_server_can_be_chosen_by_its_job_and_namespace() -> None:
    for row in QUESTIONS.values():
        for panel in row:
            for query in panel.queries.values():
                assert "mean1" in query or ("$job" in query and "$namespace" in query), panel.title


def test_panels_link_to_pages_of_the_console_by_labels_that_their_series_have() -> None:
    navigation = (ROOT / "server/forkpoint_server/viewer/main.js").read_text()
    panels = json.loads(make())["panels"]
    linked = [panel for panel in panels if panel.get("fieldConfig", {}).get("defaults", {}).get("links")]
    assert {panel["title"] for panel in linked} >= {"Answers", "Sample ratio", "KV cache in use"}
    for panel in linked:
        (link,) = panel["fieldConfig"]["defaults"]["links"]
        server, _, page = link["url"].removeprefix("http://").partition("/forkpoint#/")
        assert f'name: "{page.partition("?")[0]}"' in navigation
        assert server in ("${__field.labels.instance}", "${console}")
        for label in re.findall(r"\$\{__field\.labels\.(\w+)\}", link["url"]):
            for target in panel["targets"]:
                assert f"{{{{{label}}}}}" in target["legendFormat"], panel["title"]


def test_the_dashboard_links_to_one_servers_console() -> None:
    dashboard = json.loads(make())
    (link,) = dashboard["links"]
    assert link["url"] == "http://${console}/forkpoint"
    (variable,) = (one for one in dashboard["templating"]["list"] if one["name"] == "console")
    assert not variable.get("multi")
    assert not variable.get("includeAll")
