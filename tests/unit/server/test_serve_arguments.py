"""Forkpoint's own arguments: what they accept, and what they say of the rest."""

from __future__ import annotations

import socket
import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.cli import DEMO_ARGUMENTS, demo_arguments
from forkpoint_server.serve_arguments import check_early, check_headless, help_text, own_arguments
from forkpoint_server.steering_options import check_layers, layer_numbers


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


@pytest.mark.parametrize(
    ("text", "names"), [("none", ()), ("policies", ("policies",)), ("calm, nowait", ("calm", "nowait"))]
)
def test_model_aliases(parser: ArgumentParser, text: str, names: tuple[str, ...]) -> None:
    assert parser.parse_args([]).model_aliases == ()
    assert parser.parse_args(["--model-aliases", text]).model_aliases == names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "nowiat"], "--policy: there is no policy 'nowiat'; did you mean nowait"),
        (["MODEL", "--model_aliases=nope"], "--model-aliases: there is no policy 'nope'"),
        (["--policies", "nowhere", "--max-model-len", "8"], "nowhere is not a folder"),
    ],
)
def test_wrong_values_are_found_early(arguments: list[str], said: str) -> None:
    with pytest.raises((InputError, ValueError), match=said):
        check_early([*arguments, "--port", "0"])


def test_a_wrong_type_ends_the_command_early(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check_early(["--max-branches", "many"])
    assert ended.value.code == 2
    assert "argument --max-branches: must be a whole number above 0, not 'many'" in capsys.readouterr().err


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"--port: {port} is in use on 127.0.0.1; choose another"):
            check_early(["--port", str(port)])
        check_early(["--port", "0"])
        check_early(["--uds", "/tmp/socket", "--port", str(port)])


def test_values_of_vllms_options_are_left_to_it() -> None:
    check_early(["/a/model", "--max-model-len", "many", "--port", "many", "--max-branch", "8"])


def test_an_unknown_option_ends_the_command_early(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check_early(["/a/model", "--polcy", "nowait"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "forkpoint serve: unknown option --polcy; did you mean --policy or --policies?\n"


def test_help_describes_every_argument_and_how_to_see_vllms(parser: ArgumentParser) -> None:
    shown = " ".join(help_text().split())
    for action in parser._actions:
        assert action.option_strings[-1] in shown
    assert "the policy of requests that name none" in shown
    assert "forkpoint serve --help=all" in shown


def test_a_wrong_flag_needs_neither_vllm_nor_torch(tmp_path: Path) -> None:
    """They take many seconds to import."""
    program = (
        "import sys; from forkpoint_server.cli import main; status = main(['--policy', 'nowiat']); "
        "print(status, 'vllm' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "1 False False\n"
    assert done.stderr.startswith("forkpoint serve: --policy: there is no policy 'nowiat'; did you mean nowait")


def test_a_headless_node_has_no_arguments_about_requests(parser: ArgumentParser) -> None:
    check_headless(parser.parse_args(["--allow-untested-vllm"]))
    of_ours = ["--policy", "nowait"], ["--trace-tokens", "0"], ["--telemetry-host", "127.0.0.1"]
    of_vllm = ["--port", "8000"], ["--host", "0.0.0.0"]
    for arguments in (*of_ours, *of_vllm):
        with pytest.raises(ValueError, match=f"{arguments[0]}: a --headless node serves no requests"):
            check_early(["MODEL", "--headless", *arguments])


@pytest.mark.parametrize(("text", "layers"), [("20", (20,)), ("12, 3,5", (3, 5, 12)), ("0", (0,))])
def test_hidden_layers(text: str, layers: tuple[int, ...]) -> None:
    assert layer_numbers(text) == layers


@pytest.mark.parametrize("text", ["", "1,", "-1", "1,1", "all", "1.5"])
def test_what_is_no_list_of_layers(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="must be numbers of layers, the first of the model is 0"):
        layer_numbers(text)


def test_layers_that_the_model_does_not_have() -> None:
    check_layers((0, 3), 4)
    with pytest.raises(ValueError, match="--hidden-layers: the model has no layer 4; its 4 layers are 0 to 3"):
        check_layers((0, 4), 4)


@pytest.mark.parametrize("given", [["--host", "0.0.0.0"], ["--host=0.0.0.0"], ["--block_size", "16", "--host", "::"]])
def test_an_option_that_is_given_replaces_the_embedded_models(given: list[str]) -> None:
    names = {name.partition("=")[0].replace("_", "-") for name in given if name.startswith("--")}
    kept = demo_arguments(given)
    assert names.isdisjoint(kept)
    replaced = {DEMO_ARGUMENTS[at : at + 2] for at, name in enumerate(DEMO_ARGUMENTS) if name in names}
    assert len(replaced) == len(names)
    assert len(kept) == len(DEMO_ARGUMENTS) - 2 * len(names)


def test_an_option_without_a_value_is_replaced_alone() -> None:
    assert demo_arguments(["--enforce-eager"]) == [one for one in DEMO_ARGUMENTS if one != "--enforce-eager"]
    assert demo_arguments(["--no-enforce-eager", "--", "--host"]) == list(DEMO_ARGUMENTS)
