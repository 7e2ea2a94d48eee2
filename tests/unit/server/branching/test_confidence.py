"""Group confidence is the same whether it is computed on a whole answer or token by token."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_server.branching.confidence import RunningGroupConfidence, group_confidences, lowest_group_confidence


@pytest.mark.parametrize("window", [1, 3, 7])
def test_token_by_token_as_of_the_whole(window: int) -> None:
    values = np.random.default_rng(window).uniform(0, 5, 7)
    num_tokens, means = group_confidences(values, window)
    running, latest = RunningGroupConfidence(window), {}
    for value in values.tolist():
        running.add(value)
        if running.latest is not None:
            latest[running.num_tokens] = running.latest
    assert list(latest) == num_tokens.tolist()
    assert list(latest.values()) == pytest.approx(means.tolist())
    assert lowest_group_confidence(values, window) == pytest.approx(min(latest.values()))


def test_unknown_values_are_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0])
    num_tokens, means = group_confidences(values, 2)
    assert (num_tokens.tolist(), means.tolist()) == ([3, 4], [2.0, 4.0])
    assert lowest_group_confidence(np.array([np.nan]), 2) is None


def test_a_short_answer_is_one_group() -> None:
    assert lowest_group_confidence(np.array([1.0, 2.0]), 2048) == 1.5
