"""The README's program runs as it stands, against a real server."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Server

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_program(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program.replace("http://127.0.0.1:8000", server.url), names)  # our own documentation, not input
    assert names["response"].forkpoint["policy"] == "nowait"
    assert "'fired'" in capsys.readouterr().out
