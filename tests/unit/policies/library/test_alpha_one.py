"""alpha-one, against AlphaOne's rule (arXiv:2505.24863) as ASTRAL-Group/AlphaOne's eval/code_eval_efficient.py has it
at c9e9085996, worked out by hand.

Up to the moment t_m = alpha * N_think, "Wait" is written after one of nine tokens, a blank line and what stands before
it, with probability 1 - t / t_m; from t_m on, a sampled "Wait" becomes the end of the reasoning. N_think is the model's
mean reasoning length.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.regions import single_token_regions
from forkpoint_policies.library import LIBRARY
from tests.unit.policies.factories import Request, Run
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, byte_vocabulary, token

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


AUTHORS = ["\n\n", ",\n\n", ".\n\n", "]\n\n", ")\n\n", "],\n\n", "].\n\n", ").\n\n", ".)\n\n"]
OTHERS = [":\n\n", "?\n\n", "!\n\n", "**\n\n", " \n\n", "\n", ".\n", "\n\n\n"]
PARAGRAPHS = byte_vocabulary(*AUTHORS, *OTHERS, "Wait", ":")
MODEL = ServedModel(
    PARAGRAPHS,
    fork_threshold=0.672,
    regions=single_token_regions(PARAGRAPHS.size - 3, PARAGRAPHS.size - 2),
    stop=PARAGRAPHS.size - 1,
    mean_reasoning_tokens=1e7,  # so late a moment that it waits almost surely
    encode=lambda text: [PARAGRAPHS.tokens.index(text.encode())],
)


@pytest.mark.parametrize("written", [*AUTHORS, *OTHERS])
def test_it_waits_after_the_authors_nine_tokens_and_no_other(written: str) -> None:
    tokens = [PARAGRAPHS.tokens.index(one.encode()) for one in (":", written)]
    steps = replay("alpha-one", [torch.zeros(PARAGRAPHS.size)] * 3, tokens, MODEL, {"thinking_tokens": 1_000_000})
    assert [step.forced for step in steps] == [False, False, written in AUTHORS]
    assert not compile_policy(LIBRARY["alpha-one"].policy, MODEL).warnings


def test_a_model_without_such_tokens_waits_after_the_text() -> None:
    plain = byte_vocabulary("Wait")
    target = replace(
        MODEL,
        vocabulary=plain,
        regions=single_token_regions(plain.size - 3, plain.size - 2),
        stop=plain.size - 1,
        encode=lambda text: [plain.tokens.index(text.encode())],
    )
    compiled = compile_policy(LIBRARY["alpha-one"].policy, target)
    assert any("they are matched as text" in warning for warning in compiled.warnings)
    tokens = [plain.tokens.index(one.encode()) for one in (":", "\n", "\n")]
    steps = replay("alpha-one", [torch.zeros(plain.size)] * 4, tokens, target, {"thinking_tokens": 1_000_000})
    assert [step.forced for step in steps] == [False, False, False, True]


@pytest.mark.parametrize(
    ("written", "ends"),
    [("Wait", True), (" Wait", True), ("wait", False), (" wait", False), ("WAIT", False)],
)
def test_only_wait_as_it_is_written_ends_the_reasoning_and_only_from_the_moment_on(written: str, ends: bool) -> None:
    steps = replay("alpha-one", [sure_of(token(written))] * 17, [token(". ")] * 17, CALIBRATED, temperature=0.0)
    assert [step.left == [END_THINK] for step in steps] == [False] * 14 + [ends] * 3
