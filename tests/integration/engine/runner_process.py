"""A vLLM engine in a process of its own, which generates what tests.integration.engine.runners.Runner requests.

Its arguments are the number of an open socket and the options of `vllm.LLM` as JSON. vLLM prints to standard output.
"""

from __future__ import annotations

import json
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from vllm import LLM
from vllm.outputs import CompletionOutput
from vllm.v1.metrics.reader import Counter

from forkpoint_server.engine.hidden_states import PUT_ARTEFACT, READ_STATES
from tests.integration.engine.demo_readout import READOUT


def answer(llm: LLM, job: tuple[list[Any], list[Any]]) -> tuple[list[CompletionOutput], dict[str, int]]:
    """Each request's first choice, and vLLM's counters from the start of the process until now."""
    outputs = llm.generate(*job, use_tqdm=False)
    counters: dict[str, int] = {}
    for metric in llm.get_metrics():
        if isinstance(metric, Counter):
            counters[metric.name] = counters.get(metric.name, 0) + metric.value
    return [output.outputs[0] for output in outputs], counters


def call(llm: LLM, job: tuple[str, list[Any]]) -> list[Any]:
    """What every worker answers to a method of its extension, with these arguments."""
    method, args = job
    return llm.collective_rpc(method, args=tuple(args))


def main(number: str, options: str) -> None:
    connection = Connection(int(number))
    try:
        llm = LLM(**json.loads(options))
        if llm.llm_engine.vllm_config.parallel_config.worker_extension_cls:
            assert not any(llm.collective_rpc(READ_STATES))
            assert not any(llm.collective_rpc(PUT_ARTEFACT, args=(READOUT.raw,)))
    except Exception:  # noqa: BLE001  # the test that wanted the engine shows any error
        connection.send((None, traceback.format_exc()))
        return
    connection.send((None, None))
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):  # the tests' process has ended, or was killed
            return
        try:
            connection.send((call(llm, job) if isinstance(job[0], str) else answer(llm, job), None))
        except Exception:  # noqa: BLE001  # as above
            connection.send((None, traceback.format_exc()))


if __name__ == "__main__":
    main(*sys.argv[1:])
