"""Data sets of the hub: how they are named, and which of their fields are read."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.hub_data import HubDataError, HubSource, parse


class Rows(list[dict[str, Any]]):
    """What `datasets.load_dataset` returns, as far as it is read."""

    column_names = ("problem", "answer")


def test_sources() -> None:
    assert parse("hf:openai/gsm8k") == HubSource("openai/gsm8k")
    assert parse("hf:openai/gsm8k:main:train") == HubSource("openai/gsm8k", "main", "train")
    assert parse("hf:a/b:c?question=problem") == HubSource("a/b", "c", question="problem")
    for wrong in ("hf:", "hf:a:b:c:d", "hf:a::test", "hf:a?text=b", "hf:a?question"):
        with pytest.raises(HubDataError, match="must be hf:REPOSITORY"):
            parse(wrong)


def test_its_fields_become_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> Rows:
        asked.append((arguments, options))
        return Rows([{"problem": "2 + 2?", "answer": "4"}, {"problem": "3 + 3?", "answer": "6"}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    first, second = datasets.read("hf:a/b:main?question=problem")
    assert asked == [(("a/b", "main"), {"split": "test"})]
    assert (first.id, first.messages, first.answer) == ("test-1", ({"role": "user", "content": "2 + 2?"},), "4")
    assert second.answer == "6"
    with pytest.raises(HubDataError, match="has no field question; it has problem, answer"):
        datasets.read("hf:a/b:main")


def test_without_the_package_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        datasets.read("hf:a/b")
