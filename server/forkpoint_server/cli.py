"""`forkpoint serve [MODEL] [any argument of vLLM's server]`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from forkpoint_policies.spec import InputError
from forkpoint_policies.worker.orphan import SERVER_PID, name_server

from .api_servers import ApiServer, OwnPort, bind_own_ports, check_api_servers, run_api_servers, share
from .cpu_limits import check_stages, keep_prompts_whole, warn_of_slow_arithmetic
from .demo import SERVED_NAME, WEIGHTS
from .home import check_compiled_code_can_run, use_writable_home
from .nodes import await_others, join, meeting_of
from .quiet_exit import exit_quietly
from .ray_workers import RayWorkers, await_ray_workers
from .replicas.address import Listening, replica_address
from .serve_arguments import check_early, check_headless, help_text, own_arguments, registry_of, vectors_of
from .server_log import configure_logging, expect_siblings
from .steering_options import hook_layers
from .telemetry_host import telemetry_host
from .vllm_options import named_options

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from .shutdown import Drain
    from .vllm_seam import VllmConfig

logger = logging.getLogger(__name__)

DEMO_ARGUMENTS = (
    str(WEIGHTS), "--served-model-name", SERVED_NAME, "--host", "127.0.0.1", "--reasoning-parser", "qwen3",
    "--block-size", "32", "--enforce-eager", "--max-num-batched-tokens", "16384", "--kv-cache-memory-bytes", "1G",
    "--dtype", "float32", "--enable-scale-out",
)  # fmt: skip
"""How the embedded model is served: short traces fill blocks of 32 tokens, nothing is compiled, and a gibibyte holds
half a million tokens. The weights are bfloat16: processors without instructions for it would take twice as long. With
scale-out, tokens can go in and out.
"""

PROCESSORS = {
    False: "forkpoint_policies.worker.vllm_v1:PolicyProcessorV1",
    True: "forkpoint_policies.worker.vllm_v2:PolicyProcessorV2",
}
"""The logits processor for each model runner, by `vllm_config.use_v2_model_runner`."""


def main(arguments: list[str]) -> int:
    """Run the server; returns the exit status."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)  # until vLLM's HTTP server handles it
    if arguments and arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0
    try:
        check_early(arguments)  # importing vLLM takes long
    except (InputError, ValueError, OSError) as error:
        return _fail(_one_line(error))
    exit_quietly()  # before vLLM registers its exit handlers
    try:
        home = use_writable_home()
    except OSError as error:
        return _fail(_one_line(error))
    try:
        from .vllm_seam import TESTED_VLLM, VLLM_VERSION
    except ImportError as error:
        problem = "vLLM is not installed" if error.name == "vllm" else "this vLLM lacks names that Forkpoint uses"
        return _fail(f'{problem} ({error}); pip install "forkpoint-server[gpu]" or, without a GPU, make setup')
    ray_workers: RayWorkers | None = None
    try:
        args = parse(arguments)
        if home is not None:
            logger.warning("the user's home cannot be written: caches are in %s and may be lost; set HOME", home)
        if VLLM_VERSION.partition("+")[0] not in TESTED_VLLM and not args.allow_untested_vllm:
            raise ValueError(
                f"vLLM {VLLM_VERSION} was not tested with this Forkpoint, {', '.join(TESTED_VLLM)} was; "
                "install that one, or pass --allow-untested-vllm"
            )
        registry, vectors = registry_of(args), vectors_of(args)
        config = engine_config(args)
        check_stages(config)
        keep_prompts_whole(args, config)
        warn_of_slow_arithmetic(config)
        if config.device_config.device_type == "cpu":
            check_compiled_code_can_run()
        generates = config.model_config.runner_type == "generate"
        if generates:
            _choose_processor(args, config)
            args.telemetry_host = "" if args.headless else telemetry_host(args.telemetry_host, config)
        elif args.policy:
            raise ValueError(
                f"--policy: the model is served for {config.model_config.runner_type} and generates no text, so no "
                "policy applies; leave --policy out"
            )
        from .store.database import open_database

        database = open_database(args.database_url) if generates and not args.headless else None
        if args.api_server_count is not None:
            ports = own_ports(args, database)
            config = engine_config(args)  # with the logits processor
            address = None
        else:
            address = None if database is None else own_replica_address(args, database)
        if generates:
            meet_other_nodes(args, config)
            ray_workers = await_ray_workers(config, args.worker_extension_cls, args.telemetry_host)
    except (InputError, ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        return _fail(_one_line(error))
    os.environ[SERVER_PID] = name_server(os.getpid())
    if args.headless:
        return _run_headless(args)
    import uvloop

    from .app import PolicyOptions, serve, serve_without_policies

    options = None if database is None else PolicyOptions(registry, args.policy, database, vectors, address)
    try:
        if args.api_server_count is not None:
            run_api_servers(args, config, serve_one, ports)
            return 0
        uvloop.run(serve_without_policies(args) if options is None else serve(args, options))
    except KeyboardInterrupt:
        return 130
    except (InputError, ValueError, OSError, RuntimeError) as error:
        return _fail((ray_workers and ray_workers.problem()) or _one_line(error))
    return 0


def meet_other_nodes(args: Namespace, config: VllmConfig) -> None:
    """Wait until the nodes of the model on other hosts are there. Raises ValueError and OSError; see `nodes`."""
    meeting = meeting_of(config)
    if meeting is None:
        return
    parallel = config.parallel_config
    if args.headless or parallel.node_rank > 0:  # with --data-parallel-external-lb, other nodes serve too
        join(meeting)
    else:
        await_others(meeting, "" if parallel.local_engines_only else args.telemetry_host)


def own_replica_address(args: Namespace, database: Engine) -> str | None:
    """Where the other servers of a PostgreSQL reach this one; None where there are none. Raises ValueError."""
    from .vllm_seam import get_ip

    listening = Listening(args.host, args.port, args.uds, tls=args.ssl_certfile is not None)
    if database.dialect.name != "postgresql":
        if args.replica_address:
            raise ValueError(
                "--replica-address: servers find each other in a PostgreSQL; name it with --database-url, or leave "
                "--replica-address out"
            )
        return None
    address = replica_address(args.replica_address, listening, get_ip)
    if address is None:
        logger.warning("the other servers of the database cannot ask this one for traces; set --replica-address")
    return address


def own_ports(args: Namespace, database: Engine | None) -> list[OwnPort]:
    """Where each of several API servers is asked for its traces; none for a model that generates nothing.

    Raises ValueError.
    """
    from .vllm_seam import get_ip

    if database is None:
        return []
    if database.dialect.name != "postgresql":
        raise ValueError(
            "--api-server-count: several API servers find each other's traces through a PostgreSQL; name it with "
            "--database-url, or run one"
        )
    database.dispose()  # each process has its own connections
    return bind_own_ports(args, get_ip)


def parse(arguments: list[str]) -> Namespace:
    """Parse vLLM's arguments and ours, after the embedded model's if there is no model. Exits with 2 on a wrong one."""
    from .vllm_seam import (
        FlexibleArgumentParser,
        cli_env_setup,
        make_arg_parser,
        validate_parsed_serve_args,
    )

    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="forkpoint serve", description=__doc__))
    own_arguments(parser)
    args: Namespace = parser.parse_args(arguments)

    # the model
    if args.model_tag is None and args.model == parser.get_default("model"):
        args = parser.parse_args([*demo_arguments(arguments), *arguments])
    if args.model_tag is not None:
        args.model = args.model_tag

    # the API servers
    if args.grpc:
        raise ValueError("forkpoint serve speaks HTTP; leave --grpc out")
    if args.headless:
        check_headless(args)
    check_api_servers(args)
    several = (args.api_server_count or 1) > 1
    args.api_server_count = 0 if args.headless else args.api_server_count if several else None

    # keys
    if args.admin_api_key is not None and not args.admin_api_key.strip():
        raise ValueError("--admin-api-key is empty, so that anybody has it; give a key, or leave it out")
    keys = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
    if keys and args.admin_api_key:
        args.api_key = [*keys, args.admin_api_key]  # the admin key is good for all routes

    configure_logging(args)
    validate_parsed_serve_args(args)
    return args


def demo_arguments(given: Sequence[str]) -> list[str]:
    """DEMO_ARGUMENTS without the options that are given too: vLLM warns of one that comes twice."""
    named = {name.replace("_", "-") for name, _ in named_options(given)}
    kept, keep = [], True
    for argument in DEMO_ARGUMENTS:
        if argument.startswith("--"):
            keep = argument not in named
        if keep:
            kept.append(argument)
    return kept


def serve_one(
    ports: Sequence[OwnPort],
    drain: Drain,
    address: str,
    sock: socket.socket,
    args: Namespace,
    client_config: dict[str, Any],
) -> None:
    """Run one of several API servers, in a process of its own, until interrupted. Exits with 1 where it cannot."""
    import uvloop

    from .app import PolicyOptions, serve, serve_without_policies
    from .store.database import open_database
    from .vllm_seam import decorate_logs, set_process_title

    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    exit_quietly()
    configure_logging(args)
    expect_siblings()
    one = ApiServer(address, sock, client_config, drain.of_server(int(client_config["client_index"])), ports)
    set_process_title("APIServer", str(one.number))
    decorate_logs()
    for number, port in enumerate(ports):
        if number != one.number:
            port.sock.close()
    args.max_live_branches, args.trace_tokens = (
        share(limit, one.count) for limit in (args.max_live_branches, args.trace_tokens)
    )
    try:
        import_plugins(args)
        if one.own_port is None:
            uvloop.run(serve_without_policies(args, one))
            return
        database = open_database(args.database_url)
        options = PolicyOptions(registry_of(args), args.policy, database, vectors_of(args), one.own_port.address)
        uvloop.run(serve(args, options, one))
    except KeyboardInterrupt:
        sys.exit(130)
    except (InputError, ValueError, OSError, RuntimeError) as error:
        sys.exit(_fail(_one_line(error)))


def import_plugins(args: Namespace) -> None:
    """Import the parsers of the arguments, as vLLM does where it makes the socket: each process knows its own."""
    from .vllm_seam import ReasoningParserManager, ToolParserManager

    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)


def engine_config(args: Namespace) -> VllmConfig:
    """vLLM's configuration from these arguments. Raises what vLLM raises for a model that it cannot serve."""
    from .vllm_seam import AsyncEngineArgs, UsageContext

    if args.skip_tokenizer_init and args.runner != "pooling":
        raise ValueError(
            "policies need the model's tokenizer; leave --skip-tokenizer-init out, or add --runner pooling"
        )
    options = AsyncEngineArgs.from_cli_args(args)
    if args.api_server_count:
        options._api_process_count, options._api_process_rank = args.api_server_count, -1
    config: VllmConfig = options.create_engine_config(UsageContext.OPENAI_API_SERVER, headless=args.headless)
    return config


def _run_headless(args: Namespace) -> int:
    """Run this node's part of a model until interrupted, as vLLM does."""
    from .vllm_seam import run_headless

    try:
        run_headless(args)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        return _fail(_one_line(error))
    return 0


def _choose_processor(args: Namespace, config: VllmConfig) -> None:
    """Add the logits processor for the model runner that vLLM will use. Raises ValueError if policies cannot work."""
    from forkpoint_policies.worker.last_layer import EXTENSION

    if config.speculative_config is not None and not config.use_v2_model_runner:
        raise ValueError(
            "vLLM's V1 model runner, which it chose here, has no policies under speculative decoding; leave "
            "--speculative-config out, or run where vLLM has its V2 model runner (a GPU with Triton; "
            "VLLM_USE_V2_MODEL_RUNNER=1)"
        )
    if config.parallel_config.enable_batch_sharded_sampling:
        raise ValueError("policies need every rank to see every request; leave --enable-batch-sharded-sampling out")
    if args.hidden_layers or args.recycle_layers:
        hook_layers(args, config)
    args.worker_extension_cls = args.worker_extension_cls or EXTENSION
    args.logits_processors = [*(args.logits_processors or []), PROCESSORS[config.use_v2_model_runner]]


def _exit_on_sigterm(signum: int, _frame: object) -> None:
    """Unwind, so that the engine's processes end too: the signal's default action would leave them running."""
    raise SystemExit(128 + signum)


def _one_line(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _fail(message: str) -> int:
    print(f"forkpoint serve: {message}", file=sys.stderr)
    return 1
