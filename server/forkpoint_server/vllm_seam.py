"""Every vLLM name that the server uses, imported here only, grouped by what we use it for; and the versions tested.

Upgrading vLLM means updating this module, the two adapters in `forkpoint_policies.worker` and the pins;
`tests/integration/engine/test_seams.py` names what moved. Importing this module takes seconds: where start-up time
matters (`forkpoint --help`), import it inside functions.
"""

from __future__ import annotations

# ruff: noqa: F401, I001  # imported for others, and in the order of the seams

# Command line: vLLM's own arguments, parsed and checked as `vllm serve` does.
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.logger import configure_logging_from_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
except ImportError:  # vLLM 0.33 moved them
    from vllm.entrypoints.common.cli_args import (  # type: ignore[import-not-found, no-redef, unused-ignore]
        make_arg_parser,
        validate_parsed_serve_args,
    )
    from vllm.entrypoints.common.startup import cli_env_setup  # type: ignore[import-not-found, no-redef, unused-ignore]

# Launch: the engine's client, vLLM's FastAPI app and its HTTP server, which `app.serve` assembles with our parts.
from vllm import envs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.cli.serve import run_headless
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.utils.network_utils import get_ip

# Several API servers: the engine and their processes, which `api_servers` starts with our own function in each.
from vllm.v1.engine.utils import bind_engine_zmq_listeners, launch_core_engines
from vllm.v1.executor import Executor
from vllm.utils.system_utils import decorate_logs, set_process_title
from vllm.v1.metrics.prometheus import setup_multiprocess_prometheus
from vllm.v1.utils import APIServerProcessManager, wait_for_completion_or_failure

# Engine: requests in, token ids and log-probabilities out. `InterveningEngine` has `EngineClient`'s interface.
from vllm.engine.protocol import EngineClient
from vllm.inputs import tokens_input
from vllm.logprobs import Logprob
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.utils import random_uuid

# Stop strings: how vLLM detokenizes a request and searches its text, for those that count in the answer only.
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer, check_stop_strings

# Errors: raised so that vLLM's handlers answer, and the OpenAI-shaped object that ours return.
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import GracefulHTTPError, VLLMServerError, VLLMValidationError

# Prompts: the served model's chat template and tokenizer for `POST /v1/forks`, and the markers of its regions.
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.utils.mistral import is_mistral_tokenizer
from vllm.parser.engine.parser_engine_config import ParserState
from vllm.reasoning import ReasoningParserManager
from vllm.renderers.chat_utils import ChatCompletionMessageParam
from vllm.tool_parsers import ToolParserManager

try:
    from vllm.renderers.chat_utils import MM_PARSER_MAP, TEXT_PART_TYPES
except ImportError:  # vLLM 0.33 made a package of the module
    from vllm.renderers.chat_utils.chat_message import (  # type: ignore[import-not-found, no-redef, unused-ignore]
        MM_PARSER_MAP,
        TEXT_PART_TYPES,
    )

# Structured outputs: how vLLM's xgrammar back end reads a grammar, from which banned words are dropped.
from vllm.v1.structured_output.utils import compile_regex_with_timeout, grammar_is_likely_lark

# Tracing: the attribute that names a span's request, and the exporter that vLLM would use.
from vllm.tracing import SpanAttributes
from vllm.tracing.otel import get_span_exporter

# Offline: an engine without a server, with which `demo.measure` samples the embedded model's answers.
from vllm import LLM

# The version: installed, and tested.
from vllm import __version__ as VLLM_VERSION  # noqa: N812

TESTED_VLLM = ("0.32.0", "0.33.0")
"""The vLLM versions that work; others need `--allow-untested-vllm`. docs/serving.md says how each was tested."""
