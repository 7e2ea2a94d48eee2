"""The states of hooked layers, read from real engines while they serve others: eager and compiled."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load
from vllm.inputs import TokensPrompt

from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.engine.hidden_states import TAKE_STATES

from .conftest import Instruct, running
from .steered import VOCABULARY, Reference, logprobs_of, steering_options

GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True, "logprobs": VOCABULARY}
EVERYWHERE: dict[str, Any] = {"rules": [{"do": {"observe": {}}}]}
EVERY_THIRD: dict[str, Any] = {"rules": [{"when": {"every": 3}, "do": {"observe": {}}}]}
TOLERANCE = 1e-5
"""Of a state's norm."""
NAMES = ["layer.1", "last", "layer.3"]


def far(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """How far [n, D] states are off at most, in their norms."""
    return float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


@pytest.mark.parametrize("enforce_eager", [True, False], ids=["eager", "compiled"])
def test_they_are_transformers_and_reading_them_changes_no_bit_of_anybodys_logits(
    prompts: list[TokensPrompt], instruct: Instruct, enforce_eager: bool
) -> None:
    """Prompts in pieces, and requests that keep other layers, or none, in one batch."""
    options = {
        "max_logprobs": VOCABULARY, "enforce_eager": enforce_eager, "enable_prefix_caching": False,
        "max_num_batched_tokens": 80, "max_num_seqs": 16, **steering_options((1, 3)),
    }  # fmt: skip
    few = prompts[:4]
    with contextmanager(running)(**options, logits_processors=[PROCESSORS[False]]) as llm:
        plain = [one.outputs[0] for one in llm.generate(few, [instruct(None, **GREEDY)] * 4, use_tqdm=False)]
        params = [
            instruct(None, **GREEDY),
            instruct(EVERYWHERE, kept_states=NAMES, **GREEDY),
            instruct(EVERYWHERE, **GREEDY),
            instruct(EVERY_THIRD, kept_states=["layer.3"], **GREEDY),
        ]
        mixed = [one.outputs[0] for one in llm.generate(few, params, use_tqdm=False)]
        after = [one.outputs[0] for one in llm.generate(few, [instruct(None, **GREEDY)] * 4, use_tqdm=False)]
        payloads = [PolicyPayload.of(one.extra_args) for one in (params[1], params[3])]
        all_layers, third = (
            load(llm.collective_rpc(TAKE_STATES, args=(payload.handle,))[0]) for payload in payloads if payload
        )
    for one, other in [*zip(plain, mixed, strict=True), *zip(plain, after, strict=True)]:
        assert one.token_ids == other.token_ids
        assert (logprobs_of(one) == logprobs_of(other)).all()
    reference = Reference()
    assert all_layers["positions"].tolist() == list(range(24))
    for layer in (1, 3):
        expected = reference.states(few[1]["prompt_token_ids"], mixed[1].token_ids, layer)
        assert far(all_layers[f"layer.{layer}"], expected) < TOLERANCE
    assert all_layers["last"].shape == all_layers["layer.1"].shape
    assert third.keys() == {"positions", "rules", "layer.3"}
    assert third["positions"].tolist() == list(range(0, 24, 3))
    expected = reference.states(few[3]["prompt_token_ids"], mixed[3].token_ids, 3)
    assert far(third["layer.3"], expected[::3]) < TOLERANCE
