"""switch-penalty, against TIP's formula (arXiv:2501.18585), worked out by hand.

The logits of words that start another thought are lowered by alpha, 3, while the thought is younger than beta, 600: a
thought starts with the reasoning, and after each such word. The paper does not list the words.
"""

from __future__ import annotations

import pytest
import torch

from forkpoint_policies.spec import InputError
from tests.unit.policies.vocabularies import END_THINK, SIZE, token

from .replay import replay

ANOTHER, X = token(" another"), token("x")
LOGITS = torch.zeros(SIZE)


def test_the_defaults() -> None:
    """600 positions lowered, 50 free; at 650 another thought starts: 600 more from the position after it."""
    stream = [X] * 650 + [ANOTHER] + [X] * 620
    steps = replay("switch-penalty", [LOGITS] * 1271, stream)
    lowered = [float(step.before[ANOTHER] - step.after[ANOTHER]) for step in steps]
    assert lowered == [3.0] * 600 + [0.0] * 51 + [3.0] * 599 + [0.0] * 21


@pytest.mark.parametrize(("alpha", "beta"), [(5.0, 3), (1.5, 4)])
def test_parameters_and_the_end_of_the_reasoning(alpha: float, beta: int) -> None:
    stream = [X] * 5 + [ANOTHER, X, END_THINK] + [X] * 4
    steps = replay("switch-penalty", [LOGITS] * 12, stream, options={"alpha": alpha, "beta": beta})
    starts = [0] * 6 + [5] * 2
    expected = [alpha if t < start + beta else 0.0 for t, start in enumerate(starts)] + [0.0] * 4
    assert [float(step.before[ANOTHER] - step.after[ANOTHER]) for step in steps] == pytest.approx(expected)
    assert all(step.after[X] == 0 for step in steps)


def test_other_words() -> None:
    wait = token(" wait")
    steps = replay("switch-penalty", [LOGITS] * 4, [X, wait, X], options={"words": "wait, Hmm,", "beta": 2})
    assert [float(step.before[wait] - step.after[wait]) for step in steps] == [3.0, 3.0, 3.0, 0.0]
    assert all(step.after[ANOTHER] == 0 for step in steps)
    with pytest.raises(InputError, match="names no token") as caught:
        replay("switch-penalty", [LOGITS], [], options={"words": " , "})
    assert caught.value.field == "policy.with"
