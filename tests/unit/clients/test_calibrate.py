"""`forkpoint calibrate`: the summary of a model's entropies, and how prompts are read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forkpoint_clients.calibrate import (
    MeasuredAnswer,
    digest,
    embedded_prompts,
    measure_answers,
    read_prompts,
    summarise,
)
from forkpoint_clients.evaluate.asker import Asker
from forkpoint_clients.evaluate.datasets import DataError
from tests.unit.clients.stub_server import completion, stub_server


def written(*answers: tuple[int, list[float]]) -> list[MeasuredAnswer]:
    return [MeasuredAnswer(prompt, np.array(entropies), len(entropies)) for prompt, entropies in answers]


def test_the_80th_percentile_with_its_interval_and_counts() -> None:
    found = summarise(written((0, [0.0, 0.001, 0.2, 0.3]), (1, [0.005, 0.1, 0.4, 0.5, 0.6, 0.7])))
    assert found.fork_threshold == 0.5
    assert found.share_below_0_01 == pytest.approx(0.3)
    assert (found.tokens, found.answers, found.prompts, found.mean_reasoning_tokens) == (10, 2, 2, 5.0)
    assert found.interval[0] <= 0.5 <= found.interval[1]
    assert summarise(written((0, [0.1] * 20))).interval == (0.1, 0.1)
    with pytest.raises(ValueError, match="nothing to take a percentile of"):
        summarise([])


def test_the_threshold_is_numpys_percentile() -> None:
    entropies = np.random.default_rng(3).exponential(size=5001)
    found = summarise([MeasuredAnswer(number, part, 0) for number, part in enumerate(np.array_split(entropies, 50))])
    assert found.fork_threshold == pytest.approx(np.percentile(entropies, 80), rel=1e-3)


def test_the_interval_holds_the_true_value_though_tokens_of_a_prompt_are_alike() -> None:
    """Each prompt has a scale of its own.

    An interval over tokens would be a third as wide, and cover it half of the time.
    """
    random, covered, runs = np.random.default_rng(0), 0, 80

    def model(prompts: int, tokens: int) -> list[MeasuredAnswer]:
        scales = random.gamma(2.0, size=prompts)
        return [MeasuredAnswer(number, random.exponential(scale, tokens), 0) for number, scale in enumerate(scales)]

    true = np.percentile(np.concatenate([one.entropies for one in model(20_000, 20)]), 80)
    for number in range(runs):
        low, high = summarise(model(60, 20), seed=number, resamples=300).interval
        covered += low <= true <= high
    assert covered / runs > 0.88


def test_stored_values_are_accepted_by_the_server() -> None:
    body = summarise(written((0, [0.1234567, 0.2, 0.3, 0.4]))).to_dict("m", "ab")
    low, high = body["interval"]
    assert low <= body["fork_threshold"] <= high
    assert body["created"].endswith("+00:00")


def test_prompts_of_a_text_and_of_jsonl(tmp_path: Path) -> None:
    plain, lines = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    plain.write_text("What is 2 + 2?\n\n  And 3 + 3? \n")
    assert read_prompts(plain) == [
        [{"role": "user", "content": "What is 2 + 2?"}],
        [{"role": "user", "content": "And 3 + 3?"}],
    ]
    lines.write_text('{"question": "What is 2 + 2?"}\n{"messages": [{"role": "user", "content": "And 3 + 3?"}]}\n')
    assert digest(read_prompts(lines)) == digest(read_prompts(plain))
    lines.write_text('{"question": "x"}\nWhat?\n')
    with pytest.raises(DataError, match="line 2: is not JSON"):
        read_prompts(lines)
    plain.write_text("\n")
    with pytest.raises(DataError, match="has no prompts"):
        read_prompts(plain)
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path / "nope")


def test_the_embedded_models_prompts_alternate_between_easy_and_hard() -> None:
    prompts = embedded_prompts()
    assert len({digest([prompt]) for prompt in prompts}) == len(prompts) == 200
    assert [prompts[index][0]["content"].count(",") for index in range(4)] == [2, 3, 2, 3]


PROMPTS = [[{"role": "user", "content": f"{number} + 2?"}] for number in range(5)]


async def answers_with(entropies: list[float]) -> list[MeasuredAnswer]:
    """The answers of a server that reports these entropies for each of them."""

    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        return 200, {"choices": [{"entropies": entropies}], "forkpoint": {"reasoning_tokens": 2}}

    with stub_server(lambda _: (200, completion("4")), route) as server:
        async with Asker(server.url, "m") as asker:
            return await measure_answers(
                asker, PROMPTS, tokens=10, concurrency=2, max_tokens=None, measured=lambda number, answer: None
            )


async def test_a_calibration_without_telemetry_ends_with_an_error() -> None:
    """Without entropies the calibration would otherwise request answers forever."""
    assert sum(len(one.entropies) for one in await answers_with([0.1, 0.2, 0.3])) == 12
    with pytest.raises(DataError, match="measured no entropy in an answer of 3 tokens: its telemetry does not work"):
        await asyncio.wait_for(answers_with([]), 20)


async def test_an_interrupted_calibration_requests_only_what_it_lacks() -> None:
    asked: list[int] = []
    stored: dict[int, MeasuredAnswer] = {}

    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        return 200, {"choices": [{"entropies": [0.1, 0.2, 0.3]}], "forkpoint": {"reasoning_tokens": 2}}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body["seed"])
        return 200, completion("4")

    with stub_server(answer, route) as server:
        async with Asker(server.url, "m") as asker:
            whole = await measure_answers(asker, PROMPTS, 12, 1, None, stored.__setitem__)
            assert (asked, sorted(stored)) == ([0, 1, 2, 3], [0, 1, 2, 3])
            asked.clear()
            earlier = {number: stored[number] for number in (0, 2)}
            again = await measure_answers(asker, PROMPTS, 12, 1, None, stored.__setitem__, earlier)
    assert asked == [1, 3]
    assert summarise(again) == summarise(whole)
