"""The files of deploy/kubernetes are valid and fit together, and the server knows their arguments."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from forkpoint_server.serve_arguments import ADMIN_API_KEY, DATABASE_URL, own_arguments

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = {file.name: yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))}
KUSTOMIZATION = FILES.pop("kustomization.yaml")
OPERATORS = {"PodMonitor"}
"""Kinds that an operator brings: Kubernetes has no schema of them."""

DEPLOYMENT = FILES["deployment.yaml"]["spec"]
POD = DEPLOYMENT["template"]
(SERVER,) = POD["spec"]["containers"]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
AT_THE_ENDS_SECONDS = 10
"""How long the processes take to end after the requests have."""


@pytest.mark.parametrize("file", [name for name, found in FILES.items() if found["kind"] not in OPERATORS])
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_kubernetes_accepts(file: str, version: str) -> None:
    """From 1.30 on, a pod can wait before SIGTERM (`sleep`)."""
    kubernetes_validate.validate(FILES[file], version, strict=True)


def test_a_wrong_field_would_be_found() -> None:
    wrong = {**FILES["service.yaml"], "spec": {**FILES["service.yaml"]["spec"], "portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


def test_all_files_are_applied() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(FILES)
    (image,) = KUSTOMIZATION["images"]
    assert image["name"] == SERVER["image"]
    version = re.search('^version = "(.+)"', (ROOT / "server" / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert image["newTag"] == version[1]


def test_the_files_find_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    assert labels == DEPLOYMENT["selector"]["matchLabels"] == FILES["service.yaml"]["spec"]["selector"]
    assert labels == FILES["disruption.yaml"]["spec"]["selector"]["matchLabels"]
    assert labels == FILES["monitor.yaml"]["spec"]["selector"]["matchLabels"]
    ports = {port["name"] for port in SERVER["ports"]}
    assert {port["targetPort"] for port in FILES["service.yaml"]["spec"]["ports"]} <= ports
    assert {endpoint["port"] for endpoint in FILES["monitor.yaml"]["spec"]["podMetricsEndpoints"]} <= ports
    assert {SERVER[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} <= ports
    target = FILES["autoscaler.yaml"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        FILES["deployment.yaml"]["kind"], FILES["deployment.yaml"]["metadata"]["name"],
    )  # fmt: skip


def test_the_job_is_the_one_of_the_dashboard() -> None:
    (labels,) = KUSTOMIZATION["labels"]
    job = labels["pairs"][FILES["monitor.yaml"]["spec"]["jobLabel"]]
    (prometheus,) = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert job == prometheus["job_name"]


def test_a_pod_leaves_no_sooner_than_its_requests_end() -> None:
    parser = ArgumentParser()
    own_arguments(parser)
    parser.add_argument("model")
    parser.add_argument("--host")  # vLLM's
    parser.add_argument("--shutdown-timeout", type=int)  # vLLM's
    args = parser.parse_args(SERVER["args"])
    wait = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > wait + args.shutdown_timeout + AT_THE_ENDS_SECONDS
    ready, alive = (
        probe["periodSeconds"] * probe["failureThreshold"]
        for probe in (SERVER["readinessProbe"], SERVER["livenessProbe"])
    )
    assert ready < wait  # out of the Service before SIGTERM
    assert ready < alive


def test_secrets_are_not_arguments_and_the_page_names_all() -> None:
    secrets = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in SERVER["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert {DATABASE_URL, ADMIN_API_KEY, "VLLM_API_KEY"} <= secrets.keys()
    assert not [argument for argument in SERVER["args"] if "$(" in argument]
    (name,) = {secret["name"] for secret in secrets.values()}
    assert f"kubectl create secret generic {name} " in PAGE
    assert {secret["key"] for secret in secrets.values()} == set(re.findall(r"--from-literal=([\w-]+)=", PAGE))


def test_only_volumes_are_written() -> None:
    assert SERVER["securityContext"]["readOnlyRootFilesystem"]
    mounted = {volume["name"]: volume["mountPath"] for volume in SERVER["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in POD["spec"]["volumes"]}
    folders = {variable["value"] for variable in SERVER["env"] if variable["name"] in ("HOME", "HF_HOME")}
    image = set(re.findall(r"^VOLUME (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert folders | image | {"/tmp", "/dev/shm"} == set(mounted.values())


def test_replicas_ask_each_other_at_their_pods_addresses() -> None:
    (address,) = (variable for variable in SERVER["env"] if variable["name"] == "VLLM_HOST_IP")
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
