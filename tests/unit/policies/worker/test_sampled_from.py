"""The distributions that tokens are sampled from, held until the tokens are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.sampling_limits import SamplingLimits
from forkpoint_policies.kernel.step_types import StepRecord
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.request import Request
from forkpoint_policies.worker.sampled_from import (
    IDLE_SECONDS,
    LastDistributions,
    SampledTokens,
    ScoredRows,
    WholeRows,
    distribution,
)
from tests.unit.policies.factories import CPU, compiled, policy, random_logits, rule

SIZE = 50
PROGRAM = compiled(policy(rule(observe={})))


def truncate(logits: Tensor, top_k: Tensor | None, top_p: Tensor | None) -> Tensor:
    """What vLLM's function does, of which the engine's tests use the original."""
    for row in range(len(logits)):
        order = logits[row].argsort(descending=True)
        if top_k is not None:
            logits[row, order[int(top_k[row]) :]] = -math.inf
        if top_p is not None:
            before = logits[row].softmax(0)[order].cumsum(0) - logits[row].softmax(0)[order]
            logits[row, order[(before >= top_p[row]) & (top_p[row] < 1)]] = -math.inf
    return logits


def row(
    handle: int,
    place: int = 0,
    temperature: float = 1.0,
    alternatives: int = 0,
    address: str = "ipc://here",
    **limits: Any,
) -> tuple[int, Request]:
    payload = PolicyPayload(
        b"", "key", handle, address, 0, 1, alternatives, limits=SamplingLimits(**limits), scored=True
    )
    return place, Request(payload, PROGRAM, temperature)


def scored(*rows: tuple[int, Request]) -> ScoredRows:
    found = ScoredRows.of(rows, SIZE, CPU)
    assert found is not None
    return found


def record(*seen: tuple[int, int], likeliest: dict[int, list[int]] | None = None) -> StepRecord:
    """Of rows with these positions and last tokens."""
    rows = torch.zeros(len(seen), c.RECORD_COLUMNS, dtype=torch.int32)
    rows[:, c.R_POSITION] = torch.tensor([position for position, _ in seen])
    rows[:, c.R_LAST_TOKEN] = torch.tensor([token for _, token in seen])
    tokens = torch.full((len(seen), 3), c.NONE, dtype=torch.int32)
    for place, some in (likeliest or {}).items():
        tokens[place, : len(some)] = torch.tensor(some)
    return StepRecord.of(rows, tokens, torch.zeros(tokens.shape), torch.zeros(len(seen)))


def expected(
    logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> NDArray[np.float64]:
    """The same in float64, from the definitions."""
    values = logits.double().numpy() / temperature
    values -= np.log(np.exp(values).sum())
    values[values < values.max() + math.log(min_p or 1e-300)] = -np.inf
    order = np.argsort(-values)
    if top_k:
        values[order[top_k:]] = -np.inf
    share = np.exp(values) / np.exp(values).sum()
    values[order[np.cumsum(share[order]) - share[order] >= top_p]] = -np.inf
    found: NDArray[np.float64] = values - np.log(np.exp(values).sum())
    return found


@pytest.mark.parametrize(
    ("temperature", "limits"),
    [
        (1.0, {}), (0.3, {}), (1.7, {"top_k": 5}), (0.8, {"top_p": 0.6}), (1.0, {"min_p": 0.05}),
        (1.3, {"top_k": 9, "top_p": 0.7, "min_p": 0.01}),
    ],
)  # fmt: skip
def test_a_distribution_is_the_one_that_vllm_samples_from(temperature: float, limits: dict[str, Any]) -> None:
    logits = random_logits(1, SIZE)
    found = distribution(logits.clone(), scored(row(1, temperature=temperature, **limits)), truncate)[0].numpy()
    assert found == pytest.approx(expected(logits[0], temperature, **limits), abs=1e-5)


def test_a_greedy_request_has_its_distribution_at_temperature_1() -> None:
    logits = random_logits(1, SIZE)
    found = distribution(logits.clone(), scored(row(1, temperature=0.0)), truncate)
    assert torch.equal(found, logits.log_softmax(dim=-1))


def test_each_row_has_its_own_limits() -> None:
    logits = random_logits(3, SIZE)
    rows = scored(row(1, 0, top_k=3), row(2, 1, 0.5), row(3, 2, top_p=0.5))
    found = distribution(logits.clone(), rows, truncate)
    assert found[0].numpy() == pytest.approx(expected(logits[0], 1.0, top_k=3), abs=1e-5)
    assert found[1].numpy() == pytest.approx(expected(logits[1], 0.5), abs=1e-5)
    assert found[2].numpy() == pytest.approx(expected(logits[2], 1.0, top_p=0.5), abs=1e-5)


def test_a_batch_without_scored_rows_has_none() -> None:
    assert ScoredRows.of([], SIZE, CPU) is None
    assert scored(row(2, 1)).handles == (2,)


def test_a_token_gets_its_log_probability_when_the_next_step_shows_it() -> None:
    last, rows, logits = LastDistributions(truncate), scored(row(5, 0), row(6, 1)), random_logits(2, SIZE)
    assert last.advance(record((0, 9), (4, 9)), logits, rows) == []
    (found,) = last.advance(record((1, 20), (5, 30)), random_logits(2, SIZE, seed=1), rows)
    assert isinstance(found, SampledTokens)
    assert (found.handles, found.position.tolist(), found.known_at.tolist()) == ((5, 6), [0, 4], [1, 5])
    assert found.token.tolist() == [20, 30]
    expected = logits.log_softmax(dim=-1)
    assert found.logprob.tolist() == pytest.approx([float(expected[0, 20]), float(expected[1, 30])])


def test_rows_that_move_keep_their_distributions() -> None:
    last, logits = LastDistributions(truncate), random_logits(3, SIZE)
    last.advance(record((0, 0), (0, 0), (0, 0)), logits, scored(row(5, 0), row(6, 1), row(7, 2)))
    rows = scored(row(7, 0), row(5, 1))
    sampled, whole = last.advance(record((1, 3), (1, 4)), random_logits(2, SIZE), rows)
    assert isinstance(sampled, SampledTokens)
    assert isinstance(whole, WholeRows)
    found = dict(zip(sampled.handles, sampled.logprob.tolist(), strict=True))
    expected = logits.log_softmax(dim=-1)
    assert found == {7: pytest.approx(float(expected[2, 3])), 5: pytest.approx(float(expected[0, 4]))}
    assert [whole.held.scored.handles[place] for place in whole.rows] == [6], "it has left: its token is not shown"
    assert torch.equal(whole.held.logprobs[1], expected[1])


def test_the_pieces_of_a_prompt_are_no_tokens() -> None:
    """They are evaluated at the first position, or at none after a preemption: the sender leaves them out."""
    last, rows = LastDistributions(truncate), scored(row(5))
    last.advance(record((0, 1)), random_logits(1, SIZE), rows)
    (found,) = last.advance(record((0, 2)), random_logits(1, SIZE), rows)
    assert isinstance(found, SampledTokens)
    assert (found.position.tolist(), found.known_at.tolist()) == ([0], [0])
    (found,) = last.advance(record((c.NONE, 2)), random_logits(1, SIZE), rows)
    assert isinstance(found, SampledTokens)
    assert (found.position.tolist(), found.known_at.tolist()) == ([0], [c.NONE])


def test_alternatives_have_their_log_probabilities_at_once() -> None:
    last, logits = LastDistributions(truncate), random_logits(2, SIZE)
    rows = scored(row(5, 0), row(6, 1, alternatives=2))
    (found,) = last.advance(record((3, 0), (4, 0), likeliest={1: [11, 12]}), logits, rows)
    assert isinstance(found, SampledTokens)
    assert found.handles == (6, 6, 6)
    assert found.position.tolist() == [4, 4, -1], "another request may want more of them"
    assert found.token.tolist()[:2] == [11, 12]
    assert found.known_at.tolist() == [5, 5, 5], "as of tokens that were sampled there"
    assert found.logprob.tolist()[:2] == pytest.approx(logits[1].log_softmax(dim=-1)[[11, 12]].tolist())


def test_what_is_held_for_long_is_sent_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = at(monkeypatch)
    last, rows = LastDistributions(truncate), scored(row(5))
    assert last.idle() is None
    last.advance(record((0, 1)), random_logits(1, SIZE), rows)
    assert last.idle() is None, "the next step may show its token"
    clock(IDLE_SECONDS + 0.001)
    idle = last.idle()
    assert idle is not None
    assert (idle.held.scored.handles, idle.rows) == ((5,), (0,))
    assert last.idle() is None
    (found,) = last.advance(record((1, 7)), random_logits(1, SIZE), rows)
    assert isinstance(found, SampledTokens), "the step was slow: the token is reported all the same"
    assert isinstance(last.advance(record((0, 0)), random_logits(1, SIZE), None)[0], WholeRows)
    assert last.advance(record((0, 0)), random_logits(1, SIZE), None) == []


def test_slow_steps_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each would send the distributions of all its requests."""
    clock = at(monkeypatch)
    last, rows = LastDistributions(truncate), scored(row(5))
    for position, (step, patience) in enumerate(((0.0, 0.05), (0.001, 0.05), (0.1, 0.3), (2.0, 0.5))):
        clock(step)
        last.advance(record((position, 1)), random_logits(1, SIZE), rows)
        clock(patience - 0.001)
        assert last.idle() is None
        clock(0.002)
        assert last.idle() is not None
        clock(-patience - 0.001)


def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that moves only when the test moves it."""
    now = [100.0]
    monkeypatch.setattr("forkpoint_policies.worker.sampled_from.time.monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] = round(now[0] + seconds, 6)

    return move
