"""Answers are read; those that take computing, beside the event loop."""

from __future__ import annotations

import threading

import pytest

from forkpoint_policies.spec import answer_extractors
from forkpoint_server.answers import read_answer


@pytest.mark.parametrize(("extract", "beside"), [("math", True), ("last_number", False)])
async def test_what_computes_does_so_in_another_thread(
    extract: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def read(text: str) -> str:
        threads.append(threading.current_thread())
        return text

    monkeypatch.setitem(answer_extractors.EXTRACTORS, extract, read)
    assert await read_answer(extract, "4") == "4"
    assert (threads[0] is not threading.main_thread()) == beside


async def test_a_formula() -> None:
    assert await read_answer("math", r"\boxed{\frac{x^2-1}{x-1}}") == "x + 1"
