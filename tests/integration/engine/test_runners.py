"""Engines in their own processes: stock vLLM generates the same on each; V2 gives processors what ours relies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.inputs import TokensPrompt

from .row_recorder import FILE
from .runners import runner, speculating, write_noisy_model

RECORDED: dict[str, Any] = {"logits_processors": ["tests.integration.engine.row_recorder:RowRecorder"]}
TOKENS = 24
DRAFTED = 3
Calls = list[dict[str, Any]]


def greedy(count: int) -> list[SamplingParams]:
    return [SamplingParams(temperature=0.0, max_tokens=TOKENS) for _ in range(count)]


def calls(file: Path, event: str) -> Calls:
    return [call for call in map(json.loads, file.read_text().splitlines()) if call["event"] == event]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_stock_greedy_tokens_are_the_same_on_each(tmp_path: Path, prompts: list[TokensPrompt]) -> None:
    with runner(tmp_path / "v1.log", v2=False) as v1:
        expected = v1.generate(prompts[:6], greedy(6))
    assert {len(tokens) for tokens in expected} == {TOKENS}

    file = tmp_path / "v2.rows"
    with runner(tmp_path / "v2.log", v2=True, environment={FILE: str(file)}, **RECORDED) as v2:
        assert v2.generate(prompts[:6], greedy(6)) == expected
    assert calls(file, "apply")
    assert all(set(call["expanded_local_pos"]) == {0} for call in calls(file, "apply"))

    file, draft = tmp_path / "draft.rows", write_noisy_model(tmp_path / "draft", noise=0.3)
    options: dict[str, Any] = {"speculative_config": speculating(draft, DRAFTED), **RECORDED}
    with runner(tmp_path / "draft.log", v2=True, environment={FILE: str(file)}, **options) as speculative:
        assert speculative.generate(prompts[:6], greedy(6)) == expected
        assert 0.2 < speculative.acceptance < 0.95
    expanded = [call for call in calls(file, "apply") if max(call["expanded_local_pos"]) == DRAFTED]
    assert expanded
    for call in expanded:
        assert len(call["expanded_idx_mapping"]) > len(call["idx_mapping"])
        assert call["logits"][0] == len(call["expanded_idx_mapping"])


def test_an_engine_says_why_it_did_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-model"), runner(tmp_path / "log", v2=False, model="/no-such-model"):
        pass
