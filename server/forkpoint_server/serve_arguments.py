"""Forkpoint's own arguments of `forkpoint serve`, and what can be checked of them before vLLM is imported."""

from __future__ import annotations

import errno
import os
import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from pathlib import Path

from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_server.artefacts.folder import read_folder
from forkpoint_server.http.model_list import ALL, POLICIES
from forkpoint_server.policies.registry import Registry, read_policies
from forkpoint_server.requests.limits import MAX_TRACE_TOKENS
from forkpoint_server.steering_options import layer_numbers
from forkpoint_server.vllm_options import installed_options, unknown_option

NO_ALIASES = "none"
MAX_BUCKETS = 64
"""Of a histogram: each is one more series for every policy and model."""

DEFAULT_PORT = 8000
"""vLLM's."""

DATABASE_URL, ADMIN_API_KEY = "FORKPOINT_DATABASE_URL", "FORKPOINT_ADMIN_API_KEY"
"""Environment variables for what must not be in a list of processes."""

USAGE = "forkpoint serve [MODEL] [ARGUMENTS]…"


def own_arguments(parser: ArgumentParser) -> None:
    """Add Forkpoint's own arguments to those of vLLM's server."""
    own = parser.add_argument_group("Forkpoint")
    own.add_argument("--policy", metavar="NAME", help="the policy of requests that name none")
    own.add_argument(
        "--policies", metavar="DIR", type=Path, help="a folder of YAML files, one policy each, to serve by name"
    )
    own.add_argument(
        "--vectors", metavar="DIR", type=Path,
        help="a folder of safetensors files, a vector or readout each, for policies to name",
    )  # fmt: skip
    own.add_argument(
        "--model-aliases", metavar="WHICH", type=_names, default=(),
        help="the aliases MODEL:POLICY in GET /v1/models: none, policies (all without their placebos), all, or "
        "NAME,NAME…; every alias can be requested, listed or not (none)",
    )  # fmt: skip
    own.add_argument(
        "--max-branches",
        metavar="N",
        type=_positive,
        default=16,
        help="the most answers of one request's tree (%(default)s)",
    )
    own.add_argument(
        "--max-live-branches", metavar="N", type=_positive, default=128,
        help="the most branches of all requests that run at once; beyond it, trees stay smaller; several API "
        "servers divide it (%(default)s)",
    )  # fmt: skip
    own.add_argument(
        "--database-url", metavar="URL", default=os.environ.get(DATABASE_URL),
        help="where policies, experiments and their outcomes are stored: sqlite:////PATH or postgresql://…; by default "
        f"a file in the user's data folder (environment: {DATABASE_URL})",
    )  # fmt: skip
    own.add_argument(
        "--retention-days", metavar="DAYS", type=_positive, default=90,
        help="how long after its last request a stopped experiment's requests and outcomes are stored (%(default)s)",
    )  # fmt: skip
    own.add_argument(
        "--admin-api-key", metavar="KEY", default=os.environ.get(ADMIN_API_KEY),
        help="the key for the routes that change policies, experiments and calibrations; with --api-key, it is good "
        f"for all other routes too (environment: {ADMIN_API_KEY})",
    )  # fmt: skip
    own.add_argument(
        "--trace-tokens", metavar="N", type=_non_negative, default=MAX_TRACE_TOKENS,
        help="the memory for the traces of recent requests (GET /v1/forks/ID), in tokens of 100 bytes; with 0, "
        "none are stored, and running requests are not shown; several API servers divide it (%(default)s)",
    )  # fmt: skip
    own.add_argument(
        "--telemetry-host", metavar="ADDRESS", default="",
        help="the address of this machine to which workers on other hosts send their records, encrypted; by default "
        "--master-addr or --data-parallel-address where the model runs on several hosts, and under Ray this machine's "
        "address (VLLM_HOST_IP)",
    )  # fmt: skip
    own.add_argument(
        "--replica-address", metavar="ADDRESS", default="",
        help="where the other servers of a PostgreSQL reach this one, to ask it for traces: HOST, HOST:PORT or "
        "http://HOST:PORT; by default --host, or this machine's address (VLLM_HOST_IP), and --port. Of several API "
        "servers, each has a port: PORT and those after it, by default free ones",
    )  # fmt: skip
    own.add_argument(
        "--max-body-mib", metavar="N", type=_positive, default=64,
        help="the largest body of a generating request, in MiB; Forkpoint's own routes accept 16 at most (%(default)s)",
    )  # fmt: skip
    own.add_argument(
        "--token-buckets", metavar="N,N,…", type=_buckets,
        help="the upper bounds of the buckets of forkpoint_reasoning_tokens, rising; by default powers of two from 8 "
        "to 131072",
    )  # fmt: skip
    own.add_argument(
        "--seconds-buckets", metavar="S,S,…", type=_buckets,
        help="the upper bounds of the buckets of forkpoint_request_seconds, rising; by default from 0.1 to 3600",
    )  # fmt: skip
    own.add_argument(
        "--show-arms", action="store_true",
        help="show the clients of experiments their arm, in headers and in the `forkpoint` object; otherwise only the "
        "generated text depends on the arm",
    )  # fmt: skip
    own.add_argument(
        "--hidden-layers", metavar="N,N,…", type=layer_numbers, default=(),
        help="hook these layers of the model, the first is 0, so that policies can add vectors to their outputs; a "
        "server without it has no hooks",
    )  # fmt: skip
    own.add_argument(
        "--recycle-layers", metavar="N,N,…", type=layer_numbers, default=(),
        help="run these layers of the model twice, the first is 0, so that policies can let tokens take the second "
        "pass; all requests pay for it: each of them costs as much as one more layer",
    )  # fmt: skip
    own.add_argument("--allow-untested-vllm", action="store_true", help="run on a vLLM version that was not tested")


def help_text() -> str:
    """Forkpoint's own arguments, and how to see vLLM's. Importing vLLM for its help would take long."""
    parser = ArgumentParser(prog="forkpoint serve", usage=USAGE, add_help=False, description=DESCRIPTION)
    own_arguments(parser)
    return (
        f"{parser.format_help()}\nAll arguments of vLLM's server work too, --host and --port (8000) among them: "
        "forkpoint serve --help=all\nlists them, --help=listgroup their groups, and --help=max those with `max` in "
        "their names."
    )


DESCRIPTION = (
    "Serve MODEL, or the embedded demo model, with policies: vLLM's OpenAI-compatible server, and the console at "
    "http://HOST:PORT/forkpoint."
)


LISTENING = ("host", "port", "uds")
"""vLLM's arguments that say where a server listens."""


def check_early(arguments: Sequence[str]) -> None:
    """Check Forkpoint's arguments, the names of vLLM's, and the port.

    Exits with 2 for an unknown option and for a value of the wrong type. The values in vLLM's --config file are checked
    later. Raises InputError, ValueError and OSError.
    """
    parser = ArgumentParser(prog="forkpoint serve", usage=USAGE, add_help=False, allow_abbrev=False)
    own_arguments(parser)
    if options := installed_options():
        own = (name for action in parser._actions for name in action.option_strings)
        if problem := unknown_option(arguments, options.union(own)):
            parser.exit(2, f"forkpoint serve: {problem}\n")
    for name in LISTENING:
        parser.add_argument(f"--{name}")
    parser.add_argument("--headless", action="store_true")
    args, _ = parser.parse_known_args([_with_dashes(argument) for argument in arguments])
    registry_of(args)
    vectors_of(args)
    if args.headless:
        check_headless(args)
        for name in LISTENING:
            if getattr(args, name) is not None:
                raise _serves_no_requests(name)
    elif args.uds is None:
        has_model = (bool(arguments) and not arguments[0].startswith("-")) or "--model" in arguments
        _check_port(args.host or ("" if has_model else "127.0.0.1"), args.port)


def check_headless(args: Namespace) -> None:
    """Raise ValueError for what a node without an API server cannot use."""
    own = ArgumentParser()
    own_arguments(own)
    for name, default in vars(own.parse_args([])).items():
        if getattr(args, name) != default and name != "allow_untested_vllm":
            raise _serves_no_requests(name.replace("_", "-"))


def _serves_no_requests(argument: str) -> ValueError:
    return ValueError(f"--{argument}: a --headless node serves no requests; name it on the first node only")


def registry_of(args: Namespace) -> Registry:
    """The policies of these arguments, among them all that the arguments name. Raises InputError and ValueError."""
    registry = Registry(read_policies(args.policies) if args.policies else None)
    if args.policy:
        registry.get(args.policy, "--policy")
    for name in args.model_aliases:
        if name not in (ALL, POLICIES):
            registry.get(name, "--model-aliases")
    return registry


def vectors_of(args: Namespace) -> dict[str, Artefact]:
    """The vectors and readouts of these arguments, by name. Raises InputError."""
    return read_folder(args.vectors) if args.vectors else {}


def _with_dashes(argument: str) -> str:
    """An argument with dashes in its name, as vLLM reads `--max_branches`."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument


def _check_port(host: str, port: str | None) -> None:
    """Raise OSError if another process listens there. What else is wrong with an address, vLLM says."""
    number = DEFAULT_PORT if port is None else int(port) if port.isascii() and port.isdecimal() else 0
    if not 0 < number < 1 << 16:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(f"--port: {number} is in use on {host or 'this machine'}; choose another") from None


def _non_negative(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"must be a whole number, not {text!r}")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return () if names == (NO_ALIASES,) else names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def _buckets(text: str) -> tuple[float, ...]:
    """Upper bounds as in 1,10,100: rising numbers above 0."""
    try:
        bounds = tuple(float(bound) for bound in text.split(","))
    except ValueError:
        bounds = ()
    rising = all(low < high for low, high in pairwise(bounds))
    if not 1 <= len(bounds) <= MAX_BUCKETS or not rising or not 0 < bounds[0] <= bounds[-1] < inf:
        raise ArgumentTypeError(
            f"must be up to {MAX_BUCKETS} rising numbers above 0, separated by commas, as in 1,10,100; not {text!r}"
        )
    return bounds
