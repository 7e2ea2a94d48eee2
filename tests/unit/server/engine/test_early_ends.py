"""Stop strings that count in the answer only, and the end that a rule writes, on the embedded model's tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from forkpoint_policies.compile.regions import UNMARKED, Region, single_token_regions
from forkpoint_policies.worker.records import FORCED
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.engine.early_ends import (
    AnswerStops,
    as_requested,
    cut_at_stops,
    cut_at_written_end,
    stops_in_answer,
    writes_end,
)
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import VLLMValidationError
from tests.unit.policies.vocabularies import END
from tests.unit.server.requests.recorded import add_record, context_of

TOKENIZER: Any = AutoTokenizer.from_pretrained(WEIGHTS)
REGIONS = single_token_regions(*TOKENIZER.convert_tokens_to_ids(["<think>", "</think>"]))
IN_ANSWER = RequestOptions(stop_in="answer")


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def delta(tokens: Sequence[int], reason: str | None = None) -> RequestOutput:
    choice = CompletionOutput(0, "ignored", list(tokens), None, None, finish_reason=reason)
    return RequestOutput("it", None, None, None, [choice], reason is not None)


async def outputs(deltas: Sequence[RequestOutput], seen: list[int]) -> AsyncGenerator[RequestOutput, None]:
    for number, one in enumerate(deltas):
        seen.append(number)
        yield one


def cut(tokens: Sequence[int], size: int = 1, region: int = Region.REASONING, **params: Any) -> list[CompletionOutput]:
    """What a client gets of these tokens, which come so many at a time."""
    groups = [tokens[first : first + size] for first in range(0, len(tokens), size)]
    deltas = [delta(group, "length" if group is groups[-1] else None) for group in groups]
    stops = AnswerStops(TOKENIZER, ids("Use 3"), SamplingParams(max_tokens=200, **params), REGIONS, region)

    async def collect() -> list[CompletionOutput]:
        return [output.outputs[0] async for output in cut_at_stops(outputs(deltas, []), stops)]

    return asyncio.run(collect())


TEXT = ids("3 = 3. So</think>7 = 7 and 8")


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("included", "text"), [(False, "3 = 3. So</think>7 "), (True, "3 = 3. So</think>7 =")])
def test_a_stop_string_counts_only_in_the_answer(size: int, included: bool, text: str) -> None:
    sent = cut(TEXT, size, stop=["="], include_stop_str_in_output=included, skip_special_tokens=False)
    assert "".join(one.text for one in sent) == text
    assert (sent[-1].finish_reason, sent[-1].stop_reason) == ("stop", "=")
    tokens = [token for one in sent for token in one.token_ids]
    assert tokens == TEXT[: len(tokens)]
    assert TOKENIZER.decode(tokens).endswith("="), "the token that completes it is the last one"


@pytest.mark.parametrize("size", [1, 2])
def test_nothing_of_a_stop_string_is_sent(size: int) -> None:
    sent = cut(ids("so</think>a and 7 and 8"), size, stop=["and 8"], skip_special_tokens=False)
    assert "".join(one.text for one in sent) == "so</think>a and 7 "
    assert not any("and 8".startswith(one.text.strip() or "-") and "8" in one.text for one in sent)


def test_without_a_match_all_of_the_text_is_sent() -> None:
    sent = cut(TEXT, 2, stop=["zzz"], skip_special_tokens=False)
    assert "".join(one.text for one in sent) == TOKENIZER.decode(TEXT)
    assert sent[-1].finish_reason == "length"


def test_a_stop_string_must_start_in_the_answer() -> None:
    sent = cut(TEXT, stop=["</think>7", "So"], skip_special_tokens=False)
    assert sent[-1].finish_reason == "length"


def test_an_answer_that_starts_after_the_reasoning_is_searched_from_its_start() -> None:
    sent = cut(ids("3 = 3"), region=Region.ANSWER, stop="=")
    assert ("".join(one.text for one in sent), sent[-1].stop_reason) == ("3 ", "=")


def test_the_least_number_of_tokens_comes_before_any_stop() -> None:
    tokens = ids("</think>= = =")
    first = len(cut(tokens, stop=["="]))
    later = len(cut(tokens, stop=["="], min_tokens=first))
    assert first < later <= len(tokens)


def test_it_needs_a_model_whose_answer_is_known() -> None:
    context, params = context_of(options=IN_ANSWER), SamplingParams(stop=["="])
    assert stops_in_answer(context, params)
    assert not stops_in_answer(context, SamplingParams())
    assert not stops_in_answer(context_of(), params)
    context.model = SimpleNamespace(regions=UNMARKED)  # type: ignore[assignment]
    with pytest.raises(VLLMValidationError, match=r"stop_in.*--reasoning-parser") as raised:
        stops_in_answer(context, params)
    assert raised.value.parameter == "stop_in"


def collected(kind: RequestOutputKind) -> list[RequestOutput]:
    deltas = [delta([1]), delta([2, 3]), delta([4], "stop")]
    for one, text in zip(deltas, "abc", strict=True):
        one.outputs[0].text = text

    async def collect() -> list[RequestOutput]:
        return [one async for one in as_requested(outputs(deltas, []), SamplingParams(output_kind=kind))]

    return asyncio.run(collect())


def test_deltas_become_what_the_client_asked_for() -> None:
    assert [one.outputs[0].text for one in collected(RequestOutputKind.DELTA)] == ["a", "b", "c"]
    assert [one.outputs[0].text for one in collected(RequestOutputKind.CUMULATIVE)] == ["a", "ab", "abc"]
    (final,) = collected(RequestOutputKind.FINAL_ONLY)
    assert (final.outputs[0].text, final.outputs[0].token_ids, final.finished) == ("abc", [1, 2, 3, 4], True)
    assert final.outputs[0].finish_reason == "stop"


@pytest.mark.parametrize(("written", "kept"), [(2, 3), (None, 5)])
def test_the_end_that_a_rule_writes_ends_the_answer(written: int | None, kept: int) -> None:
    """The model's own end, at 1, is ignored, as `ignore_eos` asks for."""
    trace, tokens, seen = Trace(1, 0), [7, END, END, 8, 9], list[int]()
    for position in range(5):
        add_record(trace, position, 0.5, FORCED if position == written else 0)

    async def stored() -> AsyncGenerator[RequestOutput, None]:
        async for one in outputs([delta(tokens[:1]), delta(tokens[1:4]), delta(tokens[4:], "length")], seen):
            trace.tokens.extend(one.outputs[0].token_ids)
            yield one

    async def collect() -> list[RequestOutput]:
        return [one async for one in cut_at_written_end(stored(), trace, END)]

    got = asyncio.run(collect())
    assert [token for one in got for token in one.outputs[0].token_ids] == tokens[:kept] == trace.tokens
    assert got[-1].finished
    assert got[-1].outputs[0].finish_reason == ("length" if written is None else "stop")


def test_only_a_policy_that_ends_answers_is_watched_under_ignore_eos() -> None:
    ignoring = SamplingParams(ignore_eos=True)
    assert writes_end(context_of({"stop": {}}), ignoring)
    assert not writes_end(context_of({"stop": {}}), SamplingParams())
    assert not writes_end(context_of({"temperature": 0.5}), ignoring)
