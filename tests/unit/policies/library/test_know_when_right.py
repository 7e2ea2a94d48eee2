"""`know-when-right` ends the reasoning after a sentence where its readout says that the answer is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.hidden.readouts import Readout
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of
from forkpoint_policies.spec import InputError
from forkpoint_policies.worker.artefacts import WorkerArtefacts
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, fired, random_logits
from tests.unit.policies.hidden.artefact_files import readout
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, token

ENTRY = LIBRARY["know-when-right"]
CORRECT = readout()
WIDTH = CORRECT.model.hidden_size
SURE, UNSURE = 0.86, 0.84


def state_of(probability: float) -> torch.Tensor:
    """A state at which the readout has this value."""
    weight = torch.from_numpy(np.array(CORRECT.tensors["weight"])).double()
    number = np.log(probability / (1 - probability)) - float(CORRECT.tensors["bias"])
    found: torch.Tensor = (weight * number / (weight @ weight)).float()
    return found


@pytest.mark.parametrize("text", [".", "\n\n", ",", "x"])
@pytest.mark.parametrize("probability", [SURE, UNSURE])
@pytest.mark.parametrize("region", [Region.REASONING, Region.ANSWER])
def test_where_it_ends_the_reasoning(text: str, probability: float, region: int) -> None:
    state = state_of(probability)
    assert Readout.of(CORRECT, CPU).values(state[None])[0] == pytest.approx(probability, abs=1e-5)
    artefacts = WorkerArtefacts()
    artefacts.put(CORRECT.raw)
    slots = PolicySlots(1, SIZE, CPU, artefacts=artefacts)
    program = compile_policy(ENTRY.policy, replace(TARGET, artefacts={"correct": CORRECT})).program
    slots.add(0, Request(program, region=region).payload(), 1.0, [])
    for position, before in enumerate([[0], [token(text)]]):
        logits = random_logits(1, SIZE, seed=position)
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([position - 1]), torch.tensor(before), torch.zeros(1).int()
        )
        record = slots.step(batch, logits, state[None])
    ends = text in (".", "\n\n") and probability == SURE and region == Region.REASONING
    assert fired(Record.of(record, [0], 1)) == ([0] if ends else [])
    left = (logits[0] > -torch.inf).nonzero().flatten().tolist()
    assert (left == [END_THINK]) == ends


def test_a_model_without_the_readout_refuses_it_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        compile_policy(ENTRY.policy, replace(TARGET, artefacts={}))
    assert caught.value.field == "policy.rules[0].when.readout_above.name"
    assert caught.value.message.startswith("there is no readout 'correct'")
    assert "store one with PUT /v1/vectors/NAME" in caught.value.message
    assert "\n" not in caught.value.message


def test_another_readout_and_its_placebo() -> None:
    mine = replace(TARGET, artefacts={"mine": readout(bias=1.0)})
    assert compile_policy(ENTRY.use({"readout": "mine", "threshold": 0.5}), mine).readouts == ("mine",)
    assert matches_of(ENTRY.policy) == ("positions",)
