"""Forkpoint's own arguments: what they accept, and what they say of the rest."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from forkpoint_server.cli import own_arguments


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser()
    own_arguments(parser)
    return parser


@pytest.mark.parametrize("name", ["token_buckets", "seconds_buckets"])
def test_buckets(parser: ArgumentParser, name: str) -> None:
    option = "--" + name.replace("_", "-")
    assert getattr(parser.parse_args([]), name) is None
    assert getattr(parser.parse_args([option, "0.5,10, 100"]), name) == (0.5, 10.0, 100.0)
    assert getattr(parser.parse_args([option, "7"]), name) == (7.0,)


@pytest.mark.parametrize(
    "text", ["", "a", "1,", "2,1", "1,1", "0,1", "-1,1", "1,inf", "1,nan", "nan", ",".join(map(str, range(1, 66)))]
)
def test_buckets_that_do_not_rise(parser: ArgumentParser, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args([f"--token-buckets={text}"])
    assert "must be up to 64 rising numbers above 0, separated by commas" in capsys.readouterr().err
