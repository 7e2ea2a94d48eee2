"""Steering a compiled model and running a layer of it again, after a server without hooks on the same cache."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm.inputs import TokensPrompt

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_server.cli import PROCESSORS

from .conftest import Instruct, running
from .steered import HOOKED, RECYCLED, VOCABULARY, Reference, logprobs_of, put, steering_options, vector_of

CALM = vector_of(seed=1, layers=(2,))
EVERY: dict[str, Any] = {"rules": [{"when": {"every": 8}, "do": {"steer": {"vector": "calm", "scale": 1.5}}}]}
AGAIN: dict[str, Any] = {"rules": [{"when": {"every": 8}, "do": {"recycle": {"layer": 2, "tokens": 2}}}]}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True, "logprobs": VOCABULARY}
TOLERANCE_NATS = 1e-4


def test_a_server_with_hooks_after_one_without_on_one_cache_steers(
    prompts: list[TokensPrompt], instruct: Instruct, target: ServedModel, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    served = replace(target, artefacts={"calm": CALM}, hidden_layers=HOOKED, recycle_layers=RECYCLED)
    options = {"max_logprobs": VOCABULARY, "enforce_eager": False}
    few, engine = prompts[:4], contextmanager(running)
    with engine(**options) as llm:
        plain = [one.outputs[0] for one in llm.generate(few, [instruct(None, **GREEDY)] * 4, use_tqdm=False)]
    with engine(**options, **steering_options(), logits_processors=[PROCESSORS[False]]) as llm:
        put(llm, [CALM])
        policies = (None, EVERY, None, AGAIN)
        params = [instruct(policy, served=served, **GREEDY) for policy in policies]
        mixed = [one.outputs[0] for one in llm.generate(few, params, use_tqdm=False)]
    for number in (0, 2):
        assert mixed[number].token_ids == plain[number].token_ids
        assert (logprobs_of(mixed[number]) == logprobs_of(plain[number])).all()
    found, prompt = logprobs_of(mixed[1]), few[1]["prompt_token_ids"]
    added = {position: {2: 1.5 * CALM.tensors["layer.2"]} for position in range(0, 24, 8)}
    reference = Reference()
    assert np.abs(reference.logprobs(prompt, mixed[1].token_ids, added) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, mixed[1].token_ids, {}) - found).max() > 100 * TOLERANCE_NATS
    found, prompt = logprobs_of(mixed[3]), few[3]["prompt_token_ids"]
    again = {2: [one for position in range(0, 23, 8) for one in (position, position + 1)]}
    assert np.abs(reference.logprobs(prompt, mixed[3].token_ids, {}, again) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, mixed[3].token_ids, {}) - found).max() > 100 * TOLERANCE_NATS
