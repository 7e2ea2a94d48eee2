"""The server's log: ours goes where vLLM's goes, and of vLLM's lines some are left out or shortened."""

from __future__ import annotations

import logging
from argparse import Namespace

LAUNCHER = "vllm.entrypoints.launchers.launcher"
"""The logger with which vLLM lists its routes: more than fifty lines."""
ENGINE_CLIENT = "vllm.v1.engine.async_llm"
"""The logger of vLLM's client of the engine."""


def configure_logging(args: Namespace) -> None:
    """Configure vLLM's loggers by the arguments, and let ours log as they do."""
    from .vllm_seam import configure_logging_from_args

    configure_logging_from_args(args)
    logging.getLogger(ENGINE_CLIENT).addFilter(says_that_the_engine_ended)
    if not args.log_config_file:  # that file configures our loggers too
        _log_as_vllm()
        logging.getLogger(LAUNCHER).addFilter(_is_no_route)


def expect_siblings() -> None:
    """Leave out what vLLM says of a port that others have too: this process is one of several API servers."""
    logging.getLogger(LAUNCHER).addFilter(_names_no_sibling)


def _is_no_route(record: logging.LogRecord) -> bool:
    """Whether a log record is none of those with which vLLM lists each of its routes, or debugging wants them."""
    listed = record.getMessage().startswith(("Available routes", "Route: "))
    return not listed or logging.getLogger(LAUNCHER).isEnabledFor(logging.DEBUG)


def _names_no_sibling(record: logging.LogRecord) -> bool:
    """Whether a log record is not vLLM's warning, at the end, that another process has the port: a sibling has."""
    return not str(record.msg).startswith("port %s is used by process")


def says_that_the_engine_ended(record: logging.LogRecord) -> bool:
    """Make one line of the traceback with which vLLM notices that its engine is gone: it names no reason, the engine's
    own log does, and on SIGTERM the engine ends first."""
    if record.exc_info and record.exc_info[0] is not None and record.exc_info[0].__name__ == "EngineDeadError":
        record.msg, record.args, record.exc_info = "the engine has ended", (), None
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True


def _log_as_vllm() -> None:
    """Log to vLLM's handlers: Python's default prints nothing once a library has added a handler to the root logger."""
    theirs = logging.getLogger("vllm")
    for name in ("forkpoint_server", "forkpoint_policies"):
        ours = logging.getLogger(name)
        ours.handlers, ours.propagate = list(theirs.handlers), theirs.propagate
        ours.setLevel(theirs.level)
