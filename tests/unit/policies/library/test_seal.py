"""`seal` adds its vector to the token that ends a paragraph of the reasoning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of
from forkpoint_policies.spec import InputError, Policy
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, fired, random_logits
from tests.unit.policies.vocabularies import SIZE, TARGET, token

ENTRY = LIBRARY["seal"]


def steered(policy: Policy, text: str, region: int) -> list[int]:
    """The rules that fire where the text before is this."""
    slots = PolicySlots(1, SIZE, CPU)
    slots.add(0, Request(compile_policy(policy, TARGET).program, region=region).payload(), 1.0, [])
    for position, before in enumerate([[0], [token(text)]]):
        logits = random_logits(1, SIZE, seed=position)
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([position - 1]), torch.tensor(before), torch.zeros(1).int()
        )
        record = slots.step(batch, logits)
    return fired(Record.of(record, [0], 1))


@pytest.mark.parametrize("text", ["\n\n", ".", "x"])
@pytest.mark.parametrize("region", [Region.REASONING, Region.ANSWER])
def test_where_it_steers(text: str, region: int) -> None:
    in_reasoning = region == Region.REASONING
    assert steered(ENTRY.policy, text, region) == ([0] if text == "\n\n" and in_reasoning else [])
    assert steered(ENTRY.use({"ending": "."}), text, region) == ([0] if text == "." and in_reasoning else [])


def test_its_vector_is_read_with_the_token_that_ends_the_paragraph() -> None:
    (rule,) = ENTRY.policy.rules
    (action,) = rule.do.model_dump(by_alias=True, exclude_none=True).values()
    assert action == {"vector": "seal", "scale": 1.0, "tokens": 1, "from": "here"}
    assert matches_of(ENTRY.policy)[0] == "direction"


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (replace(TARGET, artefacts={}), "this server has no vectors"),
        (replace(TARGET, hidden_layers=()), "--hidden-layers"),
    ],
)
def test_a_server_that_cannot_steer_refuses_it_in_one_line(served: ServedModel, said: str) -> None:
    with pytest.raises(InputError) as caught:
        compile_policy(ENTRY.policy, served)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
