"""Starting the server wrongly: one clear line, a non-zero status, and no traceback of ours."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.serving import COMMAND


def start(*arguments: str, cwd: Path) -> tuple[int, str]:
    environment = {**os.environ, "XDG_DATA_HOME": str(cwd)}
    ended = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=200, cwd=cwd, env=environment, check=False
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/no/such/model"], "forkpoint serve: .*/no/such/model"),
        (["--no-such-argument"], "unrecognized arguments: --no-such-argument"),
        (["--max-model-len", "many"], "max-model-len"),
        (["--policy", "nope"], "forkpoint serve: --policy: there is no policy 'nope'; there are .*nowait"),
        (["--policies", "nowhere"], "forkpoint serve: --policies: nowhere is not a folder"),
        (["--api-server-count", "2"], "forkpoint serve: .*--api-server-count"),
        (["--reasoning-parser", "nope"], "forkpoint serve: .*nope"),
        (["--retention-days", "0"], "--retention-days: must be a whole number above 0"),
        (
            ["--database-url", "mysql://host/x"],
            "forkpoint serve: --database-url: mysql is not supported; sqlite and postgresql are",
        ),
        (
            ["--database-url", "postgresql://user:secret@127.0.0.1:1/x"],
            r"forkpoint serve: the database postgresql\+psycopg://user:\*\*\*@127.0.0.1:1/x cannot be used: .*refused",
        ),
    ],
)
def test_serve(arguments: list[str], says: str, tmp_path: Path) -> None:
    status, said = start("serve", *arguments, cwd=tmp_path)
    assert status not in (0, None)
    assert re.search(says, said), said[-2000:]
    assert "forkpoint_server" not in said  # no line of a traceback of ours


def test_a_policy_file_that_is_wrong_names_file_and_field(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nrules:\n  - do: {temperature: hot}\n")
    status, said = start("serve", "--policies", str(tmp_path), cwd=tmp_path)
    assert status == 1
    assert "bad.yaml: policy.rules[0].do.temperature" in said


def test_the_policies_command_works_without_a_server(tmp_path: Path) -> None:
    listed = subprocess.run([COMMAND, "policies"], capture_output=True, text=True, check=True)
    assert "nowait" in listed.stdout
    shown = subprocess.run([COMMAND, "policies", "show", "nowait"], capture_output=True, text=True, check=True)
    assert '"wait"' in shown.stdout
    (tmp_path / "own.yaml").write_text("name: own\nrules:\n  - do: {temperature: 1.2}\n")
    assert subprocess.run([COMMAND, "policies", "validate", tmp_path / "own.yaml"], check=False).returncode == 0
    (tmp_path / "own.yaml").write_text("name: own\nrules: 3\n")
    assert start("policies", "validate", str(tmp_path / "own.yaml"), cwd=tmp_path)[0] == 1


def test_an_unknown_command_names_those_there_are(tmp_path: Path) -> None:
    status, said = start("sevre", cwd=tmp_path)
    assert status == 2
    assert "serve" in said
