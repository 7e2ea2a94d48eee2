"""vLLM's names that we build on: for an upgrade that moves or changes one, a test here fails and names it.

`vllm_seam` imports each name of the server; `PARAMETERS` and `MEMBERS` pin what we rely on. The two adapters to the
model runners import their own names, which are pinned at the end.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.middleware.cors import CORSMiddleware
from vllm.config import ModelConfig, ParallelConfig, SpeculativeConfig, VllmConfig
from vllm.config.compilation import CompilationMode
from vllm.entrypoints.launchers.api_server import app_state, entry
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.forward_context import ForwardContext
from vllm.model_executor.layers.logits_processor import LogitsProcessor as LogitsModule
from vllm.model_executor.models import ModelRegistry
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.parser.engine import adapters, parser_engine, parser_engine_config
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionMetadata
from vllm.v1.engine.utils import CoreEngineLaunch, EngineZmqListeners
from vllm.v1.executor.multiproc_executor import WorkerProc
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.sample.logits_processor import LogitsProcessor as V1LogitsProcessor
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.model_states import resolve_model_state_cls
from vllm.v1.worker.gpu.model_states.interface import ModelState
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as V2LogitsProcessor
from vllm.v1.worker.gpu.spec_decode.rejection_sampler import RejectionSampler
from vllm.v1.worker.worker_base import WorkerBase, WorkerWrapperBase

from forkpoint_policies.worker import vllm_v1, vllm_v2
from forkpoint_policies.worker.last_layer import StateReading
from forkpoint_policies.worker.steering.options import KEY
from forkpoint_server import app, vllm_seam
from forkpoint_server.http import uvicorn_options
from forkpoint_server.policies.eligibility import GENERATING
from forkpoint_server.serve_arguments import own_arguments
from forkpoint_server.steering_options import STOCK_TORCH_COMPILE
from forkpoint_server.vllm_options import installed_options, unknown_option
from tools.vllm_options import parser_options

NOT_VLLM = {"TESTED_VLLM", "VLLM_VERSION", "annotations"}

PARAMETERS: dict[str, list[str]] = {
    # command line
    "make_arg_parser": ["parser"],
    "validate_parsed_serve_args": ["args"],
    "cli_env_setup": [],
    "configure_logging_from_args": ["args"],
    # launch
    "init_app_state": ["engine_client", "state", "args", "supported_tasks"],
    "build_async_engine_client": ["args", "usage_context", "client_config"],
    "build_app": ["args", "supported_tasks", "model_config"],
    "run_headless": ["args"],
    "serve_http": ["app", "sock", "enable_ssl_refresh", "peer_loads", "uvicorn_kwargs"],
    "setup_server": ["args", "reuse_port"],
    "get_uvicorn_log_config": ["args"],
    "get_ip": [],
    # several API servers
    "bind_engine_zmq_listeners": ["vllm_config", "num_api_servers"],
    "launch_core_engines": ["vllm_config", "executor_class", "log_stats", "addresses"],
    "setup_multiprocess_prometheus": [],
    "APIServerProcessManager": [
        "listen_address",
        "sock",
        "args",
        "num_servers",
        "input_listeners",
        "output_listeners",
        "target_server_fn",
        "stats_update_address",
        "tensor_queue",
    ],
    "wait_for_completion_or_failure": ["api_server_manager", "engine_manager", "coordinator"],
    "decorate_logs": ["process_name", "skip_if_decorated"],
    "set_process_title": ["name", "suffix", "prefix"],
    # engine
    "tokens_input": ["prompt_token_ids", "prompt", "cache_salt"],
    "Logprob": ["logprob", "rank", "decoded_token"],
    "is_mistral_tokenizer": ["obj"],
    "random_uuid": [],
    # stop strings
    "check_stop_strings": ["output_text", "new_char_count", "stop", "include_in_output"],
    # structured outputs
    "compile_regex_with_timeout": ["fn", "pattern"],
    "grammar_is_likely_lark": ["grammar_str"],
    # errors
    "create_error_response": ["message", "err_type", "status_code", "param"],
    "VLLMValidationError": ["message", "parameter", "value"],
    "GracefulHTTPError": ["message", "http_status"],
    # prompts
    "with_cancellation": ["handler_func"],
    # tracing
    "get_span_exporter": ["endpoint"],
}
"""All parameters of these functions and constructors, in order."""

MEMBERS: dict[str, dict[str, list[str] | None]] = {
    "AsyncEngineArgs": {"from_cli_args": ["args"], "create_engine_config": ["usage_context"]},
    "VllmConfig": {
        "model_config": None, "scheduler_config": None, "device_config": None, "speculative_config": None,
        "parallel_config": None, "use_v2_model_runner": None,
    },
    "UsageContext": {"OPENAI_API_SERVER": None},
    "Executor": {"get_class": ["vllm_config"]},
    "FlexibleArgumentParser": {"add_argument_group": None, "parse_args": ["args"], "get_default": ["dest"]},
    "envs": {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": None},
    "EngineClient": {
        "generate": ["prompt", "sampling_params", "request_id", "lora_request", "data_parallel_rank"],
        "abort": ["request_id"],
        "get_supported_tasks": [],
        "is_sleeping": [],
    },
    "LoRARequest": {},
    "CompletionOutput": {
        "__init__": ["index", "text", "token_ids", "cumulative_logprob", "logprobs", "finish_reason", "stop_reason"]
    },
    "RequestOutput": {
        "__init__": [
            "request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "outputs", "finished", "lora_request",
            "num_cached_tokens", "metrics", "num_cache_creation_tokens", "prompt_token_id_logprobs",
            "kv_transfer_params", "ec_transfer_params",
        ]
    },
    "RequestOutputKind": {"CUMULATIVE": None, "DELTA": None, "FINAL_ONLY": None},
    "SamplingParams": {
        "__init__": [
            "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature", "seed", "stop",
            "stop_token_ids", "bad_words", "ignore_eos", "max_tokens", "min_tokens", "logprobs", "detokenize",
            "skip_special_tokens", "include_stop_str_in_output", "output_kind", "structured_outputs", "extra_args",
            "thinking_token_budget", "repetition_detection",
        ],
        "clone": [],
        "__post_init__": [],
    },
    "StructuredOutputsParams": {"__init__": ["choice", "grammar"]},
    "ErrorResponse": {"__init__": ["error"], "model_dump": None},
    "VLLMServerError": {},
    "TokenizeChatRequest": {
        "__init__": ["model", "messages", "add_generation_prompt", "tools", "chat_template_kwargs"],
        "model_validate": ["obj"],
    },
    "TokenizeCompletionRequest": {"__init__": ["model", "prompt"]},
    "ChatCompletionToolsParam": {"__init__": ["type", "function"]},
    "ServingTokenization": {"create_tokenize": ["request", "raw_request"]},
    "ReasoningParserManager": {
        "get_reasoning_parser": ["name"], "list_registered": [], "import_reasoning_parser": ["plugin_path"],
    },
    "IncrementalDetokenizer": {
        "from_new_request": ["tokenizer", "request"],
        "update": ["new_token_ids", "stop_terminated"],
    },
    "EngineCoreRequest": {
        "__init__": [
            "request_id", "prompt_token_ids", "mm_features", "sampling_params", "pooling_params", "arrival_time",
            "lora_request", "cache_salt", "data_parallel_rank",
        ],
    },
    "ToolParserManager": {"get_tool_parser": ["name"], "import_tool_parser": ["plugin_path"]},
    "ParserState": {"CONTENT": None, "REASONING": None, "MESSAGE_HEADER": None},
    "SpanAttributes": {"GEN_AI_REQUEST_ID": None},
    "LLM": {"__init__": ["model"], "chat": ["messages", "sampling_params"]},
}  # fmt: skip
"""Members that we use of classes and modules; of callable ones, the parameters that we pass or that pass through us."""

MESSAGES = ("ChatCompletionMessageParam", "MM_PARSER_MAP", "TEXT_PART_TYPES")
"""What vLLM reads messages by; `test_the_parts_of_a_message_that_are_text` pins them."""


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def has_member(owner: Any, name: str) -> bool:
    return hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


def test_version() -> None:
    assert vllm_seam.VLLM_VERSION.partition("+")[0] in vllm_seam.TESTED_VLLM


def test_every_name_of_the_seam_is_pinned() -> None:
    names = {name for name in vars(vllm_seam) if not name.startswith("_")} - NOT_VLLM
    assert names == {*PARAMETERS, *MEMBERS, *MESSAGES}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert parameters(getattr(vllm_seam, name)) == PARAMETERS[name], name


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name: str) -> None:
    owner = getattr(vllm_seam, name)
    assert isinstance(owner, type | types.ModuleType), name
    for member, expected in MEMBERS[name].items():
        assert member == "__init__" or has_member(owner, member), f"{name}.{member}"
        if expected is not None:
            # pydantic and msgspec declare a class's parameters on the class, not on its __init__
            found = parameters(owner if member == "__init__" else getattr(owner, member))
            assert set(expected) <= set(found), f"{name}.{member} has {found}"


def test_sampling_params_are_copied_with_our_payload() -> None:
    params = vllm_seam.SamplingParams(n=2, seed=1, extra_args={"x": b"bytes"})
    assert params.clone().extra_args == {"x": b"bytes"}


def test_errors_have_the_openai_shape() -> None:
    error = vllm_seam.create_error_response("no", "ConflictError", param="name").model_dump()["error"]
    assert (error["message"], error["type"], error["param"], error["code"]) == ("no", "ConflictError", "name", 400)
    assert vllm_seam.VLLMValidationError("no", parameter="n").parameter == "n"


REASONING_PARSERS = {
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "deepseek_v41", "ernie45",
    "gemma4", "glm45", "glm47", "granite", "granite_thinking_parser", "hf", "holo2", "hunyuan_a13b", "hy_v3", "hy_v4",
    "inkling", "k2_horizon", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3", "olmo3", "openai_gptoss",
    "plamo3", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5",
}  # fmt: skip
"""Each is followed, or known not to be, in tests/unit/server/policies/test_text_regions.py."""


def test_every_reasoning_parser_is_known() -> None:
    manager = vllm_seam.ReasoningParserManager
    assert set(manager.list_registered()) == REASONING_PARSERS
    for name in REASONING_PARSERS:
        parser = manager.get_reasoning_parser(name)
        for member in ("reasoning_start_str", "reasoning_end_str", "is_reasoning_end", "extract_reasoning"):
            assert has_member(parser, member), f"{name}.{member}"


def test_the_grammar_of_a_parser_engine() -> None:
    config = parser_engine_config.ParserEngineConfig("it")
    for member in ("initial_state", "transitions", "terminals", "token_id_terminals"):
        assert has_member(config, member)
    assert {"next_state", "skip_in_token_id_mode"} <= set(parameters(parser_engine_config.Transition))
    for adapter in (adapters.ParserEngineReasoningAdapter, adapters.ParserEngineToolAdapter):
        assert "self._parser_engine =" in inspect.getsource(adapter.__init__)
    assert "self.parser_engine_config =" in inspect.getsource(parser_engine.ParserEngine.__init__)


def test_handlers_pass_the_options_of_the_reasoning_parser() -> None:
    assert {"reasoning_parser_kwargs"} <= set(parameters(vllm_seam.EngineClient.generate))
    assert "chat_template_kwargs" in inspect.getsource(OpenAIServingChat._engine_reasoning_kwargs)


def test_the_state_of_the_app() -> None:
    """`request.app.state` has no type; our routes read these attributes of it."""
    stored = {
        node.attr
        for node in ast.walk(ast.parse(Path(app_state.__file__).read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert {"engine_client", "openai_serving_models", "serving_tokenization"} <= stored


def test_what_the_launcher_of_several_api_servers_hands_over() -> None:
    assert {"inputs", "outputs", "addresses"} <= {*dir(EngineZmqListeners), *EngineZmqListeners.__annotations__}
    assert {"engine_manager", "coordinator", "tensor_queue", "watched_frontend_processes"} <= {
        *CoreEngineLaunch.__annotations__
    }
    manager = inspect.getsource(vllm_seam.APIServerProcessManager)
    for name in ("client_index", "client_count", "api_server_loads", "target=target_server_fn"):
        assert name in manager
    worker = inspect.getsource(entry.build_async_engine_client)
    assert {"_api_process_count", "_api_process_rank"} <= set(re.findall(r"engine_args\.(\w+) =", worker))


class Arguments:
    """Stands for vLLM's parsed arguments: each has its own name as its value."""

    def __getattr__(self, name: str) -> str:
        return name


def test_the_http_server_gets_the_same_options_as_vllms(monkeypatch: pytest.MonkeyPatch) -> None:
    (call,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(entry)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "serve_http"
    )
    args: Any = Arguments()
    theirs = {
        keyword.arg: eval(ast.unparse(keyword.value), {"args": args, "envs": vllm_seam.envs})
        for keyword in call.keywords
        if keyword.arg not in (None, "sock", "peer_loads")  # peers are other API servers; we run one
    }
    monkeypatch.setattr(uvicorn_options, "get_uvicorn_log_config", lambda _: None)
    assert uvicorn_options.vllm_http_options(args) == theirs


# Model runner V1: `forkpoint_policies.worker.vllm_v1`


def test_the_v1_logits_processor() -> None:
    assert V1LogitsProcessor.__abstractmethods__ == {"__init__", "apply", "is_argmax_invariant", "update_state"}
    check_interface(
        V1LogitsProcessor,
        vllm_v1.PolicyProcessorV1,
        {
            "__init__": ["vllm_config", "device", "is_pin_memory"],
            "validate_params": ["sampling_params"],
            "is_argmax_invariant": [],
            "update_state": ["batch_update"],
            "apply": ["logits"],
        },
    )
    assert list(BatchUpdate.__dataclass_fields__) == ["batch_size", "removed", "added", "moved"]
    assert {direction.name for direction in MoveDirectionality} == {"UNIDIRECTIONAL", "SWAP"}


# Model runner V2: `forkpoint_policies.worker.vllm_v2`


def test_the_v2_logits_processor() -> None:
    assert V2LogitsProcessor.__abstractmethods__ == {"apply"}
    check_interface(
        V2LogitsProcessor,
        vllm_v2.PolicyProcessorV2,
        {
            "__init__": ["vllm_config", "req_states"],
            "validate_params": ["sampling_params"],
            "add_request": ["req_idx", "sampling_params"],
            "apply_staged_writes": [],
            "apply": ["logits", "ctx"],
        },
    )
    assert list(LogitsContext.__dataclass_fields__) == [
        "expanded_idx_mapping", "idx_mapping", "idx_mapping_np", "expanded_local_pos", "input_ids", "pos",
        "seq_lens_upper_bound_np",
    ]  # fmt: skip
    assert list(LogitsProcRequestState.__dataclass_fields__) == [
        "device", "max_num_reqs", "vocab_size", "all_token_ids", "prompt_len", "prefill_len", "total_len",
    ]  # fmt: skip


def check_interface(theirs: type, ours: type, methods: dict[str, list[str]]) -> None:
    """vLLM's interface has these methods and no other, and our adapter's have the same parameters."""
    found = {
        name: parameters(getattr(theirs, name))
        for name, value in vars(theirs).items()
        if isinstance(value, types.FunctionType | classmethod | staticmethod)
    }
    assert found == methods
    assert {name: parameters(getattr(ours, name)) for name in methods} == methods


def test_the_configuration_that_the_adapters_read() -> None:
    fields = VllmConfig.__dataclass_fields__
    assert {"scheduler_config", "model_config", "speculative_config", "parallel_config", "cache_config"} <= set(fields)
    assert hasattr(VllmConfig, "use_v2_model_runner")


# Hidden states: `forkpoint_policies.worker.last_layer`


def test_the_module_that_makes_logits() -> None:
    assert parameters(LogitsModule.forward)[:2] == ["lm_head", "hidden_states"]
    assert hasattr(WorkerBase, "get_model")
    names = [name for name in vars(StateReading) if not name.startswith("__")]
    assert names == [
        "forkpoint_read_states", "forkpoint_put_artefact", "forkpoint_take_states", "forkpoint_check",
    ]  # fmt: skip
    assert not any(hasattr(WorkerBase, name) for name in names), "vLLM refuses an extension with a name of its worker's"
    assert "worker_extension_cls" in ParallelConfig.__dataclass_fields__
    assert parameters(vllm_seam.EngineClient.collective_rpc)[:3] == ["method", "timeout", "args"]
    assert has_member(ModelConfig, "architectures")
    assert parameters(ModelConfig.get_hidden_size) == []


# Workers under Ray: `forkpoint_server.ray_workers`. Ray is not installed, so its executors are read.


def test_every_executor_makes_its_workers_by_one_function_before_they_load_the_model() -> None:
    """That function calls the worker's class, with names, and its `__new__` is ours."""
    assert "__new__" not in vars(WorkerBase)
    assert "self.worker = worker_class(**kwargs)" in inspect.getsource(WorkerWrapperBase.init_worker)
    executors = Path(inspect.getfile(WorkerProc)).parent
    older, newer = (executors / f"{name}.py" for name in ("ray_executor", "ray_executor_v2"))
    for source in (inspect.getsource(WorkerProc.__init__), older.read_text()):
        steps = [source.index(name) for name in ("init_worker", "init_device", "load_model")]
        assert steps == sorted(steps)
        assert '"vllm_config": vllm_config' in source or "vllm_config=self.vllm_config" in source
        assert '"rank": rank' in source or "rank=rank" in source
    assert "class RayWorkerProc(WorkerProc):" in newer.read_text()


def test_the_configuration_that_says_how_many_workers_come() -> None:
    names = ["use_ray", "enable_elastic_ep", "local_engines_only", "data_parallel_backend", "data_parallel_rank",
             "data_parallel_size", "data_parallel_size_local", "world_size"]  # fmt: skip
    assert [name for name in names if not has_member(ParallelConfig, name)] == []


# Steering: `forkpoint_policies.worker.steering`


def test_the_registry_of_models_takes_another_class_for_an_architecture() -> None:
    assert parameters(ModelRegistry.register_model) == ["model_arch", "model_cls"]
    registered = ModelRegistry.models["Qwen3ForCausalLM"]
    assert parameters(registered.load_model_cls) == []
    assert parameters(Qwen3ForCausalLM.__init__) == ["vllm_config", "prefix"]
    assert parameters(Qwen3ForCausalLM.forward)[:2] == ["input_ids", "positions"]


def test_the_metadata_of_a_forward_on_the_v1_runner() -> None:
    assert {"attn_metadata", "slot_mapping", "skip_compiled", "moe_layer_index"} <= set(
        ForwardContext.__dataclass_fields__
    )
    assert not CPUAttentionBackend.forward_includes_kv_cache_update, "a second run would write keys and values"
    assert "query_start_loc" in CPUAttentionMetadata.__dataclass_fields__


def test_the_state_of_a_model_on_the_v2_runner() -> None:
    assert parameters(resolve_model_state_cls) == ["vllm_config", "model"]
    assert parameters(ModelState.prepare_inputs) == ["input_batch", "req_states"]
    assert {
        "req_ids", "num_reqs", "num_tokens", "idx_mapping", "idx_mapping_np", "query_start_loc", "positions",
        "input_ids", "logits_indices", "num_draft_tokens_per_req",
    } <= set(InputBatch.__dataclass_fields__)  # fmt: skip
    own: Any = types.SimpleNamespace(get_model_state_cls=lambda: ModelState)
    assert resolve_model_state_cls(VllmConfig(), own) is ModelState, "a model may bring its own"


def test_the_sampler_of_a_server_that_drafts() -> None:
    """`Rejecting` is made as vLLM makes its base, and writes into the last tensor that it verifies."""
    assert parameters(ModelState.custom_sampler) == ["sampler"]
    assert parameters(RejectionSampler.__init__)[:3] == ["sampler", "spec_config", "device"]
    assert parameters(RejectionSampler._verify)[-1] == "verify_draft_sampled"
    assert {"target_model_config", "enable_adaptive_verification"} <= set(SpeculativeConfig.__dataclass_fields__)


def test_the_layers_are_part_of_the_key_of_the_compile_cache() -> None:
    keys = {VllmConfig(additional_config=config).compute_hash() for config in ({}, {KEY: [1]}, {KEY: [1, 2]})}
    assert len(keys) == 3


def test_the_configuration_that_says_whether_a_model_can_be_steered() -> None:
    for owner, names in (
        (ModelConfig, ["architecture", "enable_prompt_embeds", "is_encoder_decoder", "is_multimodal_model",
                       "uses_mrope", "using_transformers_backend", "get_total_num_hidden_layers", "max_model_len"]),
        (ParallelConfig, ["nnodes", "data_parallel_size", "data_parallel_size_local", "pipeline_parallel_size",
                          "prefill_context_parallel_size", "use_ubatching"]),
        (VllmConfig, ["kv_transfer_config", "compilation_config", "additional_config"]),
    ):  # fmt: skip
        assert [name for name in names if not has_member(owner, name)] == []
    assert CompilationMode.STOCK_TORCH_COMPILE == STOCK_TORCH_COMPILE


def test_the_parts_of_a_message_that_are_text() -> None:
    kinds, parsers = vllm_seam.TEXT_PART_TYPES, cast(Any, vllm_seam.MM_PARSER_MAP)
    assert kinds == {"text", "input_text", "output_text", "refusal", "thinking"}
    texts = {kind: parsers[kind]({"type": kind, "text": "x", kind: "x"}) for kind in kinds}
    assert texts == dict.fromkeys(kinds, "x")
    message: Any = TypeAdapter(vllm_seam.ChatCompletionMessageParam).validate_python({"role": "user", "content": "x"})
    assert message["role"] == "user"


def test_every_post_route_is_known() -> None:
    """Of a new one, decide whether it can generate text. Until then, a policy named on it is refused."""
    args = vllm_seam.make_arg_parser(vllm_seam.FlexibleArgumentParser()).parse_args(["--enable-scale-out"])
    tasks: Any = ("generate", "transcription", "realtime", "embed", "classify", "score")
    routes = vllm_seam.build_app(args, tasks, None).routes
    assert {route.path for route in routes if isinstance(route, APIRoute)} > set(GENERATING)
    assert set(app.routes_without_policies(routes)) | {"/inference/v1/generate"} == {
        "/generative_scoring",
        "/inference/v1/generate",
        "/invocations",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/systemone",
    }


def test_the_options_are_those_of_vllms_parser() -> None:
    """After a change, `python -m tools.vllm_options` writes the table anew."""
    assert installed_options() == set(parser_options())


@pytest.mark.parametrize(
    ("arguments", "is_known"),
    [
        (["MODEL", "--max-model-len", "8", "-tp", "1", "--policy", "nowait"], True),
        (["--max_model_len=8", "--max_branches", "4", "--enable_prefix_caching"], True),
        (["--no-enforce-eager", "--no-enable-chunked-prefill", "-O3", "-O", "2"], True),
        (["--max-model-l", "8", "--enforce-e", "--max-br", "4", "--retention=3"], True),
        (["--compilation-config.mode", "3", "--compilation_config.pass_config.fuse_norm_quant=true"], True),
        (["--compilation-config", '{"mode": 3}', '--hf-overrides={"a_b": {"c": 1}}', "-cc.mode", "3"], True),
        (["--additional-config.names+", "a,b", "--hf-overrides.a", "--not-an-option"], True),
        (["--served-model-name", "a", "b", "--api-key", "x", "--", "MODEL"], True),
        (["--no-such-argument"], False),
        (["--max-model-lenn=8"], False),
        (["--no-max-model-len"], False),
        (["--compilation-confi-g.mode", "3"], False),
        (["--served-model-name", "a", "--tensor_parallel.size", "2", "--tp", "2"], False),
    ],
)
def test_the_options_that_vllms_parser_accepts_are_known(arguments: list[str], is_known: bool) -> None:
    parser = vllm_seam.make_arg_parser(vllm_seam.FlexibleArgumentParser())
    own_arguments(parser)
    own = {name for action in parser._actions for name in action.option_strings} - installed_options()
    assert "--max-branches" in own
    assert (unknown_option(arguments, installed_options() | own) is None) == is_known
    if is_known:
        parser.parse_args(arguments)
    else:
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)


def test_vllms_cors_is_a_middleware_that_can_be_given_headers() -> None:
    """`app` sets `expose_headers`."""
    args = vllm_seam.make_arg_parser(vllm_seam.FlexibleArgumentParser()).parse_args([])
    built = vllm_seam.build_app(args, ("generate",), None)
    (cors,) = [middleware for middleware in built.user_middleware if cast(Any, middleware.cls) is CORSMiddleware]
    assert "expose_headers" not in cors.kwargs
