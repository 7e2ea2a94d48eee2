"""The wheels in fresh environments outside the repository: the server runs, and clients need no torch."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx
import openai
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import serving

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By package."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in ("policies", "server", "clients"):
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(build, cwd=ROOT / package, check=True, capture_output=True, timeout=300)
    return {path.name.split("-")[0].removeprefix("forkpoint_"): path for path in folder.glob("*.whl")}


def environment_with(folder: Path, *arguments: str | Path) -> Path:
    """A fresh environment in which pip installed these; the folder of its commands."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(pip, check=True, timeout=900)
    return folder / "bin"


def said(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, cwd=cwd).stdout


def test_the_server_runs_from_its_wheels(wheels: dict[str, Path], tmp_path: Path) -> None:
    """vLLM and the rest of the lock come from this environment, last on the path; nothing comes from the repository."""
    commands = environment_with(tmp_path / "fresh", "--no-deps", wheels["policies"], wheels["server"])
    (site,) = (tmp_path / "fresh" / "lib").glob("python*/site-packages")
    (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = said(
        commands / "python",
        "-c",
        "import forkpoint_server, forkpoint_policies as p; print(p, forkpoint_server)",
        cwd=tmp_path,
    )
    assert str(ROOT) not in found
    with serving(tmp_path, "--trace-tokens", "0", command=commands / "forkpoint") as server:
        client = openai.OpenAI(base_url=server.api, api_key="none", max_retries=0)
        answer = client.chat.completions.create(
            model="countdown", messages=MESSAGES, max_tokens=16, temperature=0, extra_body={"policy": "nowait"}
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 16
        assert answer.model_extra is not None
        assert answer.model_extra["forkpoint"]["policy"] == "nowait"
        for query in ("", "?stream=true"):  # --trace-tokens 0
            assert httpx.get(f"{server.api}/forks/{answer.id}{query}").status_code == 404
        assert "<html" in httpx.get(f"{server.url}/forkpoint").raise_for_status().text
        stored = httpx.put(
            f"{server.api}/policies/warm", json={"rules": [{"do": {"temperature": 1.2}}]}
        )  # by the migrations' tables
        assert stored.status_code == 201  # in the tables that the migrations made


def test_clients_need_neither_torch_nor_vllm(wheels: dict[str, Path], tmp_path: Path) -> None:
    """All that it needs is fetched from the index that pip is configured with."""
    commands = environment_with(tmp_path / "clients", wheels["policies"], wheels["clients"])
    check = "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('vllm')"
    said(commands / "python", "-c", check, cwd=tmp_path)
    assert "nowait" in said(commands / "forkpoint", "policies", "list", cwd=tmp_path)
    assert '"wait"' in said(commands / "forkpoint", "policies", "show", "nowait", cwd=tmp_path)
