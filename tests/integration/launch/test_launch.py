"""Starting the server wrongly: one clear line, a non-zero status, and no traceback of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from forkpoint_server.demo import WEIGHTS
from tests.integration.polling import until
from tests.processes.forkpoint_server import CACHE_BYTES, COMMAND, LEFT_OUT, free_port, serving

WRONG = {
    ("/no/such/model",): "forkpoint serve: .*/no/such/model",
    ("--max-model-len", "many"): "max-model-len",
    ("--policy", "nope"): "forkpoint serve: --policy: there is no policy 'nope'; there are .* more",
    ("--policies", "nowhere"): "forkpoint serve: --policies: nowhere is not a folder",
    ("--policies", "."): "bad.yaml: policy.rules\\[0\\].do.temperature",
    ("--api-server-count", "2"): "forkpoint serve: .*--api-server-count",
    ("--headless", "--policy", "observe"): "forkpoint serve: --policy: a --headless node serves no requests",
    ("--pipeline-parallel-size", "2"): "forkpoint serve: --pipeline-parallel-size: .* pass --no-enforce-eager",
    ("--data-parallel-size", "2", "--data-parallel-size-local", "1", "--telemetry-host", "192.0.2.1"): (
        "forkpoint serve: --telemetry-host: cannot listen on 192.0.2.1 .*name an address of this machine"
    ),
    ("--reasoning-parser", "nope"): "forkpoint serve: .*nope",
    ("--skip-tokenizer-init",): "forkpoint serve: policies need the model's tokenizer; leave --skip-tok",
    ("--runner", "pooling", "--policy", "observe"): "forkpoint serve: --policy: .* generates no text",
    ("--hidden-layers", "9"): "forkpoint serve: --hidden-layers: the model has no layer 9; its 4 layers are 0 to 3",
    ("--hidden-layers", "1", "--worker-extension-cls", "a.B"): (
        "forkpoint serve: --hidden-layers needs the place of --worker-extension-cls a.B; leave one of the two out"
    ),
    ("--hidden-layers", "1", "--pipeline-parallel-size", "2", "--no-enforce-eager"): (
        "forkpoint serve: --hidden-layers cannot be had with --pipeline-parallel-size above 1"
    ),
    ("--headless", "--hidden-layers", "1"): "forkpoint serve: --hidden-layers: a --headless node serves no requests",
    ("--recycle-layers", "4"): "forkpoint serve: --recycle-layers: the model has no layer 4; its 4 layers are 0 to 3",
    ("--recycle-layers", "1", "--enable-prompt-embeds"): (
        "forkpoint serve: --recycle-layers cannot be had with --enable-prompt-embeds"
    ),
    ("--retention-days", "0"): "--retention-days: must be a whole number above 0",
    (
        "--database-url",
        "mysql://host/x",
    ): "forkpoint serve: --database-url: mysql is not supported; sqlite and postgresql are",
    ("--database-url", "postgresql://user:secret@127.0.0.1:1/x"): (
        r"forkpoint serve: the database postgresql\+psycopg://user:\*\*\*@127.0.0.1:1/x cannot be used: .*refused"
    ),
}
"""Arguments, and what is said about them."""

CHUNKED = """
import json, sys
from forkpoint_server.cli import engine_config, parse
from forkpoint_server.cpu_limits import keep_prompts_whole, warn_of_slow_arithmetic
chosen = []
for arguments in json.loads(sys.argv[1]):
    args = parse(arguments)
    keep_prompts_whole(args, engine_config(args))
    config = engine_config(args)
    warn_of_slow_arithmetic(config)
    chosen.append((config.scheduler_config.enable_chunked_prefill, config.cache_config.enable_prefix_caching))
print(json.dumps(chosen))
"""
"""Whether vLLM computes prompts in pieces, and whether it caches their prefixes, with each of several arguments."""

EACH = """
import contextlib, io, json, sys
from forkpoint_server.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
    found.append((status, said.getvalue()))
print(json.dumps(found))
"""
"""The command with each of several arguments: importing vLLM takes longer than all of them."""


def start(*arguments: str, cwd: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=200, cwd=cwd, env=environment(cwd), check=False
    )
    return ended.returncode, ended.stderr


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_DATA_HOME": str(folder)}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[int, str]]:
    """The status and the words with which the command ends, by its arguments."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "bad.yaml").write_text("name: bad\nrules:\n  - do: {temperature: hot}\n")
    command = [sys.executable, "-c", EACH, json.dumps(list(WRONG))]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=folder, env=environment(folder), check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(zip(WRONG, json.loads(ended.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_arguments(arguments: tuple[str, ...], said: dict[tuple[str, ...], tuple[int, str]]) -> None:
    status, words = said[arguments]
    assert status not in (0, None)
    assert re.search(WRONG[arguments], words), words[-2000:]
    assert "forkpoint_server" not in words  # no line of a traceback of ours


def test_what_is_chosen_and_said_on_a_cpu(tmp_path: Path) -> None:
    """Prompts are computed whole unless the arguments say otherwise: in pieces, a request with a seed ends vLLM."""
    small = ["--max-num-seqs", "8", "--max-num-batched-tokens"]
    recurrent = [str(write_recurrent_model(tmp_path / "recurrent")), "--max-num-seqs", "8"]
    whole, pieces, uncached = [False, True], [True, True], [False, False]
    cases = [
        ([], whole),
        (["--no-enable-chunked-prefill"], whole),
        (["--enable-chunked-prefill"], pieces),
        ([*small, "2048"], whole),
        ([*small, "1024"], pieces),
        (["--long-prefill-token-threshold", "100"], pieces),
        (recurrent, uncached),
        ([*recurrent, "--enable-prefix-caching"], pieces),
        (["--dtype", "bfloat16"], whole),
    ]
    command = [sys.executable, "-c", CHUNKED, json.dumps([arguments for arguments, _ in cases])]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment(tmp_path), check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == [chosen for _, chosen in cases]
    said = ended.stdout + ended.stderr
    assert said.count("makes vLLM compute prompts in pieces") == 4
    # the recurrent model's dtype is bfloat16, too
    native: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert said.count("this CPU has no instructions for bfloat16; --dtype float32 is") == (0 if native else 3)
    assert "--max-num-batched-tokens 1024, smaller than the context of 2048 tokens, makes vLLM compute" in said


def write_recurrent_model(folder: Path) -> Path:
    """The configuration of a model with recurrent and attention layers, beside the embedded tokenizer."""
    shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    config = {
        "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "torch_dtype": "float32", "vocab_size": 1024,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "conv_L_cache": 3,
        "layer_types": ["conv", "full_attention"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_command_ends_with_what_is_wrong(tmp_path: Path) -> None:
    status, words = start("serve", "--no-such-argument", cwd=tmp_path)
    assert status == 2
    assert words == "forkpoint serve: unknown option --no-such-argument; forkpoint serve --help=all lists all\n"


def test_sigterm_during_the_start_ends_all_processes(tmp_path: Path) -> None:
    """Quietly: a scheduler that changes its mind gets the signal's status, and no traceback in the log."""
    log = tmp_path / "server.log"
    command = [str(COMMAND), "serve", "--port", str(free_port()), "--kv-cache-memory-bytes", str(CACHE_BYTES)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment(tmp_path)
        )
    children: list[psutil.Process] = []
    try:
        until(lambda: "Initializing a V1 LLM engine" in log.read_text())
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("EngineCore" in one.name() for one in children)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert psutil.wait_procs(children, timeout=20)[1] == []
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        for one in psutil.wait_procs(children, timeout=0)[1]:
            one.kill()


def test_the_log_has_no_warning_of_our_own_choices_and_no_list_of_tritons_leaks(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    log = server.log.read_text()
    assert "Application shutdown complete" in log
    assert "nanobind" not in log
    for warning in ("Found duplicate keys", "does not officially support disabling", "Passing raw prompts"):
        assert warning not in log
    assert server.process.returncode == 0


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
