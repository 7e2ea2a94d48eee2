"""Forkpoint answers as stock vLLM does on a real model: `make soak MODEL=PATH` names its folder.

The two servers run one after the other, because two of a real model need twice its memory. Each answers the same calls
in the same order, so that both have the same prefixes cached.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import FORKPOINT, STOCK, WHOLE_PROMPTS
from tests.processes.forkpoint_server import CACHE_BYTES, running

from .calls import Call
from .comparison import Answered, send
from .real_model_calls import CALLS, CALLS_A_TOOL, MAY_BE_REFUSED, MODEL, REFUSED
from .test_drop_in import called

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
ARGUMENTS = (
    "--served-model-name", MODEL, "--host", "127.0.0.1", "--max-model-len", "4096", "--max-num-batched-tokens", "4096",
    "--max-num-seqs", "8", "--kv-cache-memory-bytes", str(CACHE_BYTES), "--dtype", "float32", "--enforce-eager",
    "--trust-request-chat-template", "--enable-scale-out", *WHOLE_PROMPTS,
)  # fmt: skip
START_SECONDS = 1800


@dataclass(frozen=True)
class Comparison:
    """A call, and how Forkpoint's client names a policy that changes nothing: not at all, in the body, by a header."""

    call: Call
    policy: str | None = None
    by_header: bool = False

    @property
    def name(self) -> str:
        how = "without a policy" if self.policy is None else "by a header" if self.by_header else "in the body"
        return f"{self.call.name}, {how}"

    def answer(self, url: str, *, is_stock: bool) -> Answered:
        return send(url, self.call, None if is_stock else self.policy, self.by_header)


def _comparisons() -> Iterator[Comparison]:
    for call in CALLS:
        yield Comparison(call)
        if call.takes_policy:
            yield Comparison(call, "observe")
        if call.takes_policy and isinstance(call.body, dict) and call.body.get("stream"):
            yield Comparison(call, "observe", by_header=True)


COMPARISONS = tuple(_comparisons())


@pytest.fixture(scope="module")
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Answered, Answered]]:
    """What stock vLLM and Forkpoint answered, by comparison: those of the tests that were selected."""
    model = request.config.getoption("--real-model")
    if model is None:
        pytest.skip("make soak MODEL=PATH compares with stock vLLM on the model in that folder")
    needed = {_comparison(item) for item in request.session.items}
    comparisons = [one for one in COMPARISONS if one.name in needed]
    folder = tmp_path_factory.mktemp("real")
    more = shlex.split(request.config.getoption("--real-model-arguments"))
    arguments = [str(Path(model).resolve()), *ARGUMENTS, *more]
    own_database = ("--database-url", f"sqlite:///{folder / 'own.sqlite3'}")
    stock, own = (
        _answers([*command, *arguments, *added], comparisons, folder / f"{log}.log", is_stock=log == "stock")
        for log, command, added in (("stock", (*STOCK, "--model"), ()), ("forkpoint", FORKPOINT, own_database))
    )
    return {name: (stock[name], own[name]) for name in stock}


def _answers(command: list[str], comparisons: list[Comparison], log: Path, *, is_stock: bool) -> dict[str, Answered]:
    with running(command, log, {}, START_SECONDS) as server:
        return {one.name: one.answer(server.url, is_stock=is_stock) for one in comparisons}


def _comparison(item: pytest.Item) -> str | None:
    """The name of the comparison that a test of this module is about."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if isinstance(call := parameters.get("call"), Call):
        return Comparison(call).name
    one = parameters.get("one")
    return one.name if isinstance(one, Comparison) else None


@pytest.mark.parametrize("one", COMPARISONS, ids=lambda one: one.name)
def test_it_answers_as_stock_vllm(answers: dict[str, tuple[Answered, Answered]], one: Comparison) -> None:
    stock, own = answers[one.name]
    assert own == stock
    assert own.has_forkpoint == (one.policy is not None and own.status == 200)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_call_is_answered(answers: dict[str, tuple[Answered, Answered]], call: Call) -> None:
    """So that errors are not compared with errors; and a call for a tool has one, unless it was cut off before."""
    _, own = answers[Comparison(call).name]
    if call.name not in MAY_BE_REFUSED:
        assert own.status == (400 if call.name in REFUSED else 200)
    body: Any = own.body
    if call.name in CALLS_A_TOOL and not _is_cut_off(body):
        assert called(body) == ["get_weather"]


def _is_cut_off(body: Any) -> bool:
    """Whether an answer of any route ended at its limit of tokens, as that of a model that reasons at length does."""
    reasons = [choice["finish_reason"] for choice in body.get("choices", ())]
    return "length" in reasons or body.get("status") == "incomplete" or body.get("stop_reason") == "max_tokens"
