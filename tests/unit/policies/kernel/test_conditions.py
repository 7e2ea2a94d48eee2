"""Conditions on signals, against the same in float64, position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.policies import float64_reference
from tests.unit.policies.factories import Json, Request, Run, compiled, fired, policy, random_logits, rule
from tests.unit.policies.vocabularies import END_THINK, SIZE, token

X = token("x")
SCALES = (0.0, 3.0, 1.0, 6.0, 2.0, 4.0, 0.5, 5.0, 8.0, 1.5, 2.5, 3.5)
SCRIPT = [random_logits(SIZE, seed=seed, scale=scale) for seed, scale in enumerate(SCALES)]


def fired_at(*rules: Json, script: list[Tensor] = SCRIPT, **request: object) -> list[list[int]]:
    """Which rules fire at each position."""
    run = Run(Request(compiled(policy(*rules)), **request))  # type: ignore[arg-type]
    return [fired(run.step(logits[None].clone(), [[X] * position])) for position, logits in enumerate(script)]


def entropies(temperature: float = 1.0) -> np.ndarray:
    shares = [float64_reference.distribution(logits.numpy(), temperature) for logits in SCRIPT]
    return np.array([float64_reference.entropy(one) for one in shares])


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("below", [2.0, 3.5, 4.2])
@pytest.mark.parametrize("temperature", [None, 0.6, 2.0])
def test_the_mean_entropy_of_a_window(window: int, below: float, temperature: float | None) -> None:
    when: Json = {"mean_entropy_below": below, "mean_entropy_window": window}
    if temperature is not None:
        when["at_temperature"] = temperature
    own = entropies(temperature or 1.0)
    means = [own[at + 1 - window : at + 1].mean() if at + 1 >= window else np.inf for at in range(len(own))]
    assert fired_at(rule(when, observe={})) == [[0] if mean < below else [] for mean in means]


def test_two_windows_and_a_confidence_do_not_mix() -> None:
    own = entropies()
    found = fired_at(
        rule({"mean_entropy_below": 3.5, "mean_entropy_window": 2}, observe={}),
        rule({"mean_entropy_below": 3.0, "mean_entropy_window": 4}, observe={}),
        rule({"confidence_below": 50.0, "confidence_window": 3}, observe={}),
    )
    for position, rules in enumerate(found):
        expected = [position >= 1 and own[position - 1 : position + 1].mean() < 3.5]
        expected += [position >= 3 and own[position - 3 : position + 1].mean() < 3.0, position >= 2]
        assert rules == [number for number, yes in enumerate(expected) if yes]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("request_temperature", [0.0, 0.3, 1.0])
def test_bounds_at_a_temperature_do_not_depend_on_the_requests(temperature: float, request_temperature: float) -> None:
    """A rule at this temperature beside one at 1: each holds on its own distribution."""
    bounds: Json = {"entropy_below": 3.0, "varentropy_above": 1.5, "top_probability_above": 0.05}
    found = fired_at(
        rule({**bounds, "at_temperature": temperature}, observe={}),
        rule(bounds, observe={}),
        temperature=request_temperature,
    )
    for logits, rules in zip(SCRIPT, found, strict=True):
        expected = []
        for number, own in enumerate((temperature, 1.0)):
            shares = float64_reference.distribution(logits.numpy(), own)
            inside = float64_reference.entropy(shares) < 3.0 and float64_reference.varentropy(shares) > 1.5
            expected += [number] if inside and shares.max() > 0.05 else []
        assert rules == expected
    assert {number for rules in found for number in rules}, "some position is inside"


def test_rows_measured_at_different_temperatures_in_one_batch() -> None:
    programs = [
        compiled(policy(rule({"entropy_above": 3.0, **at}, observe={})))
        for at in ({"at_temperature": 0.5}, {}, {"at_temperature": 2.0}, {"at_temperature": 0.5})
    ]
    for logits in SCRIPT:
        record = Run(*map(Request, programs)).step(logits.repeat(4, 1), [[]] * 4)
        found = [bool(fired(record, row)) for row in range(4)]
        expected = [
            float64_reference.entropy(float64_reference.distribution(logits.numpy(), temperature)) > 3.0
            for temperature in (0.5, 1.0, 2.0, 0.5)
        ]
        assert found == expected


@pytest.mark.parametrize("below", [2, 3, 6, 50])
def test_the_rank_of_the_end_of_the_reasoning(below: int) -> None:
    """Rank 1 is the likeliest token; below 2 is that one only. Tokens as likely as the end do not count."""
    script = []
    for rank in (1, 2, 3, 5, 6, 49, 50, 200):
        logits = torch.linspace(0, 1, SIZE)
        logits[END_THINK] = float(torch.cat((logits[:END_THINK], logits[END_THINK + 1 :])).topk(rank).values[-1])
        script.append(logits + torch.where(torch.arange(SIZE) == END_THINK, 1e-4, 0.0))
    found = fired_at(rule({"end_of_reasoning_rank_below": below}, observe={}), script=script)
    assert found == [[0] if rank < below else [] for rank in (1, 2, 3, 5, 6, 49, 50, 200)]


def test_an_end_that_a_grammar_forbids_has_no_rank() -> None:
    masked = torch.zeros(SIZE)
    masked[END_THINK] = -torch.inf
    masked[5:] = -torch.inf
    assert fired_at(rule({"end_of_reasoning_rank_below": 1000}, observe={}), script=[masked]) == [[]]
