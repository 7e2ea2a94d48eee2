"""`recycle-again` lets half of the positions at which a thinking word is the likeliest token be computed again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import Policy
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.again import Again, Ends, Forward
from tests.unit.policies.factories import CPU, Request
from tests.unit.policies.vocabularies import SIZE, TARGET, token

ENTRY = LIBRARY["recycle-again"]
SURE = ENTRY.use({"probability": 1.0})
SCRIPT = ["Wait", "x", " Wait", "So", "wait", "y", "But"]
THINKING = [0, 2, 3, 6]


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)


class Layer(nn.Module):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return 2 * hidden_states


def computed_again(policy: Policy, seed: int = 0, script: list[str] = SCRIPT) -> list[int]:
    """The positions that are computed again of an answer for which the likeliest tokens are a script."""
    layer = Layer()
    again = Again({23: layer}, num_tokens=2)
    program = compile_policy(policy, TARGET).program
    again.add(0, 1, SIZE, Request(program, seed=seed).payload(), program, [], CPU)
    found = []
    for position, likeliest in enumerate(script):
        logits = torch.zeros(1, SIZE)
        logits[0, token(likeliest)] = 1.0
        last = token("x")  # another token is drawn than the likeliest
        again.expect(Ends(np.zeros(1, np.int32), torch.tensor([position]), torch.tensor([0]), torch.tensor([last])))
        again.keep(Forward(lambda _slots: layer(torch.ones(1, 4)), {}))
        states = again.states(torch.full((1, 4), 2.0), logits)
        if states is not None:
            assert states.tolist() == [[4.0] * 4]
            found.append(position)
    return found


def test_where_a_word_of_the_authors_is_the_likeliest() -> None:
    assert computed_again(SURE) == THINKING


def test_half_of_them_by_chance() -> None:
    found = [computed_again(ENTRY.policy, seed) for seed in range(100)]
    assert all({*one} <= {*THINKING} for one in found)
    assert 0.4 < np.mean([len(one) / len(THINKING) for one in found]) < 0.6
    assert computed_again(ENTRY.policy, seed=1) == found[1]


def test_the_authors_layer_and_a_placebo_at_other_positions() -> None:
    (rule,) = ENTRY.policy.rules
    assert rule.do.recycle is not None
    assert (rule.do.recycle.layer, rule.do.recycle.draws_again) == (23, True)
    assert matches_of(ENTRY.policy) == ("positions",)
    script = SCRIPT * 6
    count = computed_again(SURE, script=script)
    by_chance = computed_again(placebo_of(SURE), script=script)
    assert by_chance != count
    assert abs(len(by_chance) - len(count)) < len(count) / 2
