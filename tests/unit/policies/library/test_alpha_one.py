"""alpha-one, against AlphaOne's rule (arXiv:2505.24863), worked out by hand.

Up to the moment t_m = alpha * N_think, "Wait" is written after a "\\n\\n" with probability 1 - t / t_m; from t_m on, a
sampled "Wait" becomes the end of the reasoning. N_think is the model's mean reasoning length.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.library import LIBRARY
from tests.unit.policies.factories import Request, Run
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, token

from .replay import replay

CALIBRATED = replace(TARGET, mean_reasoning_tokens=10.0)  # t_m = 1.4 · 10 = 14
X, PARAGRAPH = token("x"), token("\n\n")


def sure_of(one: int) -> torch.Tensor:
    logits = torch.zeros(SIZE)
    logits[one] = 30.0
    return logits


def test_the_moment_comes_from_the_models_calibration() -> None:
    slow, fast = compile_policy(LIBRARY["alpha-one"].policy, CALIBRATED).program.rules
    if slow.instead:
        slow, fast = fast, slow
    assert (slow.first_position, slow.last_position, slow.probability.c) == (0, 13, 14.0)
    assert fast.first_position == 14
    other = LIBRARY["alpha-one"].use({"alpha": 2.0, "thinking_tokens": 4})
    assert [rule.first_position for rule in compile_policy(other, CALIBRATED).program.rules] == [0, 8]


def test_without_a_calibration_it_says_so() -> None:
    compiled = compile_policy(LIBRARY["alpha-one"].policy, TARGET)
    assert [rule.first_position for rule in compiled.program.rules] == [0, 1400]
    assert any("not calibrated; 1000 tokens" in warning for warning in compiled.warnings)
    assert not compile_policy(LIBRARY["alpha-one"].policy, CALIBRATED).warnings


@pytest.mark.parametrize("position", [2, 7, 12, 13, 14, 15])
def test_how_often_it_waits_after_a_paragraph(position: int) -> None:
    """1 - t / 14 at t = 2, 7, 12 and 13, and never from 14 on."""
    program = compile_policy(LIBRARY["alpha-one"].policy, CALIBRATED).program
    count = 1200
    run = Run(*(Request(program, seed=seed) for seed in range(count)))
    stream = [X] * (position - 1) + [PARAGRAPH]
    for step in range(position + 1):
        after = torch.zeros(count, SIZE)
        run.step(after, [stream[:step]] * count)
    waits = ((after > -torch.inf).sum(dim=-1) == 1) & (after.argmax(dim=-1) == token("Wait"))
    chance = max(0.0, 1 - position / 14)
    assert abs(float(waits.float().mean()) - chance) <= 4 * (chance * (1 - chance) / count) ** 0.5


@pytest.mark.parametrize(
    ("written", "ends"),
    [("Wait", True), (" Wait", True), ("wait", False), (" wait", False), ("WAIT", False)],
)
def test_only_wait_as_it_is_written_ends_the_reasoning_and_only_from_the_moment_on(written: str, ends: bool) -> None:
    steps = replay("alpha-one", [sure_of(token(written))] * 17, [token(". ")] * 17, CALIBRATED, temperature=0.0)
    assert [step.left == [END_THINK] for step in steps] == [False] * 14 + [ends] * 3
