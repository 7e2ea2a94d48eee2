"""`forkpoint readout fit`: wrong options end it with one line, before anything is sent."""

from __future__ import annotations

import pytest

from forkpoint_clients.cli.readout import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["two words"], "NAME: 'two words' is not a name"),
        (["mine", "--at", "sentence"], "--at: is not JSON"),
        (["mine", "--at", "[]"], '--at: must be an object such as {"region": "reasoning"'),
        (["mine", "--at", '{"entropy_abov": 1}'], "--at.entropy_abov: is not a field"),
        (["mine", "--data", "countdown:hardest"], "there is no generator countdown:hardest"),
        (["mine", "--scorer", "luck"], "there is no scorer 'luck'"),
        (["mine", "--server", "http://127.0.0.1:1"], "http://127.0.0.1:1/v1 does not answer"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forkpoint readout fit: {says}")
