"""The recipes of docs/recipes.md run as the page shows them, in the environment of the tools that they are for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.processes.forkpoint_server import Server
from tools.documented import BLOCKS, RUN, Block

PROGRAMS = Path(__file__).parents[3] / ".venv-clients" / "bin"
PAGE = [block for block in BLOCKS if block.page == "docs/recipes.md"]
RECIPES = [block for block in PAGE if block.language in RUN and not block.file]
ANSWERED = "forkpoint_request_seconds_count{"


@pytest.mark.parametrize("block", RECIPES, ids=[block.text.split(maxsplit=2)[1] for block in RECIPES])
def test_a_recipe(server: Server, block: Block, tmp_path: Path) -> None:
    """It ends well, and the server has answered a request under the policy that it names."""
    for one in PAGE:
        if one.file:
            (tmp_path / one.file).write_text(one.text)
    before = answered(server)
    said = run(block.text.replace("http://127.0.0.1:8000", server.url), block.language, tmp_path)
    assert answered(server) > before, said


def test_each_tool_of_the_page_has_a_recipe_that_runs() -> None:
    text = "".join(block.text for block in RECIPES)
    for tool in ("langchain_openai", "litellm", "inspect eval", "lm_eval run"):
        assert tool in text


def run(text: str, language: str, folder: Path) -> str:
    """What a program or commands print, in a folder that is its home. Nothing is asked of the internet."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "PYTHONWARNINGS": "ignore",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none",
    }  # fmt: skip
    python = [str(PROGRAMS / "python"), "-c", text]
    done = subprocess.run(
        python if language == "python" else ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def answered(server: Server) -> float:
    """How many requests have been answered under `nowait`, which all recipes name."""
    return sum(value for name, value in server.metrics().items() if name.startswith(ANSWERED) and '"nowait"' in name)
