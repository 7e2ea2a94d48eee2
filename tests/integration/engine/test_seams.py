"""The seams of vLLM that we stand on: an upgrade that moves one says so here."""

import inspect

import vllm
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server import app_state, entry
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from forkpoint_server.vllm_seam import TESTED_VLLM


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_version() -> None:
    assert vllm.__version__ in TESTED_VLLM


def test_the_logits_processor() -> None:
    assert LogitsProcessor.__abstractmethods__ == {"__init__", "apply", "is_argmax_invariant", "update_state"}
    assert parameters(LogitsProcessor.__init__) == ["self", "vllm_config", "device", "is_pin_memory"]
    assert list(BatchUpdate.__dataclass_fields__) == ["batch_size", "removed", "added", "moved"]


def test_the_engine() -> None:
    assert parameters(EngineClient.generate)[:4] == ["self", "prompt", "sampling_params", "request_id"]
    assert parameters(EngineClient.abort) == ["self", "request_id"]
    assert {"request_id", "prompt_token_ids", "outputs", "finished"} <= set(parameters(RequestOutput.__init__))
    assert {"index", "token_ids", "finish_reason"} <= set(CompletionOutput.__dataclass_fields__)
    params = SamplingParams(n=2, seed=1, extra_args={"x": b"bytes"})
    assert params.clone().extra_args == {"x": b"bytes"}


def test_the_launcher() -> None:
    assert parameters(build_app) == ["args", "supported_tasks", "model_config"]
    assert parameters(app_state.init_app_state) == ["engine_client", "state", "args", "supported_tasks"]
    assert parameters(entry.build_async_engine_client)[0] == "args"
    assert parameters(serve_http)[:4] == ["app", "sock", "enable_ssl_refresh", "peer_loads"]
    assert parameters(setup_server) == ["args", "reuse_port"]
    served = inspect.getsource(entry.build_and_serve)
    ours = inspect.getsource(__import__("forkpoint_server.app", fromlist=["app"]))
    passed = {line.strip() for line in served.splitlines() if line.strip().endswith(",") and "=args." in line}
    assert {
        line for line in passed if line not in ours
    } == set()  # whatever vLLM passes on to its HTTP server, we do too
