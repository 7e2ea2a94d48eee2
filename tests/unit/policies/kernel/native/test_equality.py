"""The compiled step does what the others do: any mixture of policies, drafts and preemptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forkpoint_policies.compile.program import OF_ENTROPY, ControlKind, Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.worker.compiled_slots import CompiledSlots
from forkpoint_policies.worker.request import step_temperature
from forkpoint_policies.worker.torch_slots import TorchSlots
from tests.unit.policies.factories import CPU, Request, random_logits
from tests.unit.policies.kernel.native.block_kernels import BlockKernels
from tests.unit.policies.kernel.test_step_mixtures import mixtures, some_tokens

STEPS, DEPTH, ALTERNATIVES = 6, 3, 3
LAST_PLACES = 2  # units in the last place by which logits may differ where both do arithmetic
LAST_PLACES_BY_ENTROPY = 8  # the same where the strength follows the entropy, whose terms the two add in another order
TOTAL_VARIATION = 1e-5  # by which distributions may differ where a placebo spends an effect on other tokens
BY_OTHER_TOKENS = (ControlKind.PROBABILITY, ControlKind.DOSE)


@pytest.fixture
def kernel() -> str:
    """Not one of the two, as for other tests of the kernel: this one steps both."""
    return "both"


def made(kernel: str, count: int, size: int) -> CompiledSlots | TorchSlots:
    """Empty slots of a kernel."""
    if kernel == "torch":
        return TorchSlots(count, size, CPU, DEPTH)
    if kernel == "block":
        return CompiledSlots(count, size, CPU, DEPTH, BlockKernels())
    return CompiledSlots(count, size, torch.device(kernel), DEPTH)


OTHERS = ["torch", "block", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
@given(mixture=mixtures(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_two_kernels_do_the_same(other: str, mixture: tuple[int, list[Request], list[int]], seed: int) -> None:
    run_both(other, mixture, seed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("other", OTHERS)
@given(mixture=mixtures(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=17_000, deadline=None)
def test_two_kernels_do_the_same_for_a_hundred_thousand_steps(
    other: str, mixture: tuple[int, list[Request], list[int]], seed: int
) -> None:
    run_both(other, mixture, seed)


def run_both(other: str, mixture: tuple[int, list[Request], list[int]], seed: int) -> None:
    """Steps one mixture in the CPU's compiled step and in another, and compares each step."""
    size, requests, starts = mixture
    random = np.random.default_rng(seed)
    kernels = made("cpu", len(requests), size), made(other, len(requests), size)
    generated: list[list[int]] = [[] for _ in requests]
    inside = set[int]()
    for time in range(STEPS):
        batch = [number for number, start in enumerate(starts) if start <= time]
        random.shuffle(batch)
        for number in batch:
            if number in inside and random.random() < 0.1:  # preempted
                for slots in kernels:
                    slots.remove(number)
                inside.remove(number)
            if requests[number].program is not None and number not in inside:
                add(kernels, number, requests[number], generated[number])
                inside.add(number)
        drafts = [int(random.integers(0, DEPTH)) for _ in batch]
        rows = [(number, draft) for number, own in zip(batch, drafts, strict=True) for draft in range(own + 1)]
        if not any(number in inside for number, _ in rows):
            continue
        texts = {
            number: generated[number] + some_tokens(random, own) for number, own in zip(batch, drafts, strict=True)
        }
        logits = random_logits(len(rows), size, seed=seed + time, scale=float(random.uniform(0.5, 4.0)))
        logits[torch.from_numpy(random.random(logits.shape) < 0.1)] = -torch.inf
        before = [texts[number][: len(generated[number]) + draft] for number, draft in rows]
        batch_rows = Batch(
            torch.tensor([number for number, _ in rows], dtype=torch.int32),
            torch.tensor([len(one) - 1 for one in before]),
            torch.tensor([one[-1] if one else 0 for one in before]),
            torch.zeros(len(requests), dtype=torch.int32),
        )
        devices = "cpu", "cuda" if other == "cuda" else "cpu"
        found = [stepped(one, batch_rows, logits, device) for one, device in zip(kernels, devices, strict=True)]
        (ours, one), (theirs, another) = found
        check([requests[number] for number, _ in rows], ours, theirs, (one, another))
        for number, own in zip(batch, drafts, strict=True):
            accepted = int(random.integers(0, own + 1))
            if random.random() < 0.8:  # else it is evaluated again
                text = texts[number][: len(generated[number]) + accepted]
                generated[number] = text + some_tokens(random, 1)


def stepped(slots: CompiledSlots | TorchSlots, batch: Batch, logits: Tensor, device: str) -> tuple[StepRecord, Tensor]:
    """The record of a step on a device, and the logits after it, both on the host."""
    names = ("slots", "positions", "last_tokens", "prompt_lens")
    own = replace(batch, **{name: getattr(batch, name).to(device) for name in names})
    changed = logits.to(device, copy=True)
    record = slots.step(own, changed, ALTERNATIVES)
    on_host = record.to_host()
    if device == "cuda":
        torch.cuda.synchronize()
    return on_host, changed.cpu()


def add(kernels: Sequence[CompiledSlots | TorchSlots], slot: int, request: Request, generated: list[int]) -> None:
    payload = msgspec.structs.replace(request.payload(), handle=slot + 1)
    for slots in kernels:
        slots.add(slot, payload, step_temperature(request.temperature), generated, 0)


def check(requests: Sequence[Request], one: StepRecord, other: StepRecord, changed: Sequence[Tensor]) -> None:
    """The same rules fire, records agree to rounding, and logits to the last places."""
    whole = slice(0, c.R_ENTROPY)
    for row, request in enumerate(requests):
        ours, theirs = one.rows[row], other.rows[row]
        if request.program is None:
            assert torch.equal(changed[0][row], changed[1][row])
            assert int(ours[c.R_POSITION]) == int(theirs[c.R_POSITION]) == c.NONE
            continue
        assert torch.equal(ours[whole], theirs[whole]), "handle, position, last token, flags"
        numbers = ours[c.R_ENTROPY : c.R_CONFIDENCE].view(torch.float32)
        assert torch.allclose(numbers, theirs[c.R_ENTROPY : c.R_CONFIDENCE].view(torch.float32), rtol=2e-3, atol=2e-5)
        assert torch.equal(one.likeliest[row], other.likeliest[row])
        assert torch.allclose(one.probabilities[row], other.probabilities[row], rtol=1e-4, atol=1e-7)
        assert torch.allclose(one.certainty[row], other.certainty[row], rtol=1e-5, atol=1e-6)
        if by_other_tokens(request):
            assert total_variation(changed[0][row], changed[1][row], request.temperature) <= TOTAL_VARIATION
        else:
            places = int((order(changed[0][row]) - order(changed[1][row])).abs().max())
            assert places <= (LAST_PLACES_BY_ENTROPY if follows_the_entropy(request.program) else LAST_PLACES)


def by_other_tokens(request: Request) -> bool:
    """Whether a placebo spends a rule's effect on other tokens.

    How much it moves them follows from that effect, which at a low temperature may be no more than a rounding error.
    """
    return request.program is not None and any(rule.control in BY_OTHER_TOKENS for rule in request.program.rules)


def follows_the_entropy(program: Program) -> bool:
    return any(rule.strength.shape in OF_ENTROPY for rule in program.rules)


def total_variation(one: Tensor, other: Tensor, temperature: float) -> float:
    """The share of sampled tokens that would differ at a request's temperature, in float64; at 1 if it is greedy."""
    mine, its = ((logits.double() / (step_temperature(temperature) or 1.0)).softmax(dim=0) for logits in (one, other))
    return float((mine - its).abs().sum()) / 2


def order(values: Tensor) -> Tensor:
    """Whole numbers of which neighbours are neighbouring float32."""
    bits = values.view(torch.int32).long()
    return torch.where(bits < 0, -(2**31) - bits, bits)
