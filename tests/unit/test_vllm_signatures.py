"""The comparison of vLLM's versions from their source agrees with the installed vLLM, and finds what moved."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tools import vllm_signatures
from tools.vllm_signatures import Source, broken_pins, changes, found_names, installed, routes, used_names

pytestmark = pytest.mark.slow


def test_the_installed_vllm_has_all_that_is_pinned() -> None:
    assert broken_pins(installed()) == []


def test_each_name_we_use_is_in_the_supported_vllm_that_is_not_installed() -> None:
    """Compare with its wheel, as CONTRIBUTING.md says: a name that moved is imported from both places in the seam."""
    found = set((vllm_signatures.ROOT / "tools" / "vllm_names" / "0.33.0.txt").read_text().split())
    missing = [
        name
        for name, modules in used_names().items()
        if name != "__version__" and not found & {f"{module}.{name}" for module in modules}
    ]
    assert missing == []


def test_names_are_found_where_they_are() -> None:
    names = found_names(installed())
    assert {"vllm.logprobs.Logprob", "vllm.renderers.chat_utils.MM_PARSER_MAP", "vllm.LLM"} <= set(names)
    assert len(names) == len(used_names())


def test_its_routes_are_found() -> None:
    assert {"POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses", "POST /v1/messages"} <= routes(
        installed()
    )


def test_what_moved_and_what_changed(tmp_path: Path) -> None:
    """The installed vLLM, in which one module is gone, one function has another parameter, and one route is new."""
    source = tmp_path / "vllm"
    shutil.copytree(installed().path / "vllm", source, ignore=shutil.ignore_patterns("*.so", "*.json", "__pycache__"))
    (source / "logprobs.py").unlink()
    launcher = source / "entrypoints" / "launchers" / "launcher.py"
    changed = launcher.read_text().replace("def setup_server(args,", "def setup_server(args, backlog,")
    launcher.write_text(changed + '\n\n@router.post("/v1/guess")\ndef guess():\n    pass\n')
    other = Source(tmp_path)
    problems = broken_pins(other)
    assert any(re.match("Logprob is not in vllm.logprobs", one) for one in problems)
    assert any("setup_server has the parameters ['args', 'backlog'" in one for one in problems)
    assert len(problems) == 2
    assert "route POST /v1/guess is new" in changes(installed(), other)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert vllm_signatures.main([str(installed().path)]) == 0
    assert capsys.readouterr().out == ""
    assert vllm_signatures.main([]) == 2
