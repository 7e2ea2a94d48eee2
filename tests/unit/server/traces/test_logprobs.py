"""Log probabilities of a choice's tokens, as they arrive."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from forkpoint_server.traces.logprobs import PolicyLogprobs
from forkpoint_server.traces.trace import Trace
from tests.unit.server.requests.recorded import add_record

ROW = np.array([-1.0, -2.0, -3.0], np.float32)


def test_the_last_token_is_looked_up_in_its_distribution() -> None:
    logprobs = PolicyLogprobs()
    logprobs.add(4, 2, -0.5)
    logprobs.add_distribution(5, ROW)
    assert logprobs.of_all([2, 1], 4) == [-0.5, -2.0]
    assert logprobs.of_all([2, 1, 0], 4) == [-0.5, -2.0, None], "not arrived yet"


def test_a_distribution_is_released_when_its_token_is_known() -> None:
    logprobs = PolicyLogprobs()
    logprobs.add_distribution(5, ROW)
    logprobs.resolve([7], 4)
    assert logprobs.of(5, 2) == -3.0, "the token at 5 is not known yet"
    logprobs.resolve([7, 1], 4)
    assert (logprobs.of(5, 1), logprobs.of(5, 2)) == (-2.0, None)


def test_what_is_not_about_the_choice_is_released_at_its_end() -> None:
    logprobs = PolicyLogprobs()
    for position, token in ((0, 5), (0, 6), (1, 7), (1, 8)):
        logprobs.add(position, token, -1.0)
    logprobs.add_distribution(2, ROW)
    logprobs.finish([5, 7, 2], 0, forks={1})
    assert logprobs.of_all([5, 7, 2], 0) == [-1.0, -1.0, -3.0]
    assert (logprobs.of(0, 6), logprobs.of(1, 8), logprobs.of(2, 1)) == (None, -1.0, None)


def test_what_was_lost_stays_unknown() -> None:
    logprobs = PolicyLogprobs()
    logprobs.add(0, 5, -1.0)
    logprobs.finish([5, 7], 0, forks=())
    assert logprobs.of_all([5, 7], 0) == [-1.0, None]
    assert logprobs.num_bytes < 1000


def test_a_choice_waits_for_its_last_log_probability() -> None:
    trace = Trace(1, 0, tokens=[2], logprobs=PolicyLogprobs())
    add_record(trace, 0, 1.0)
    assert trace.policy_logprobs() == [None]

    async def settled() -> float:
        asyncio.get_running_loop().call_later(0.05, trace.add_distribution, 0, ROW)
        started = time.monotonic()
        await trace.settle(started + 60)
        return time.monotonic() - started

    assert 0.04 < asyncio.run(settled()) < 30
    assert trace.policy_logprobs() == [-3.0]


def test_a_choice_without_them_waits_for_none_and_stores_none() -> None:
    trace = Trace(1, 0, tokens=[2])
    add_record(trace, 0, 1.0)
    trace.add_logprob(0, 2, -1.0)
    trace.add_distribution(0, ROW)
    asyncio.run(trace.settle(time.monotonic() + 60))
    assert (trace.policy_logprobs(), trace.logprobs) == ([None], None)
