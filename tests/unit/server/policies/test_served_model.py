"""The served model as the compiler needs it, read from the embedded model's tokenizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_server.calibration.token_frequencies import Calibration
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.policies.served_model import encoder, read_served_model, read_vocabulary, stop_tokens
from forkpoint_server.policies.text_regions import ParserNames

TOKENIZER: Any = AutoTokenizer.from_pretrained(WEIGHTS)
NUM_LOGITS = len(TOKENIZER) + 5


def engine(generation_config: dict[str, Any] | None = None, tokenizer: Any = TOKENIZER) -> Any:
    return SimpleNamespace(
        renderer=SimpleNamespace(tokenizer=tokenizer),
        model_config=SimpleNamespace(get_vocab_size=lambda: NUM_LOGITS),
        input_processor=SimpleNamespace(generation_config_fields=generation_config or {}),
    )


def test_every_token_has_its_bytes_and_special_ones_are_known() -> None:
    vocabulary = read_vocabulary(TOKENIZER, NUM_LOGITS)
    assert vocabulary.size == NUM_LOGITS, "a model may have more logits than its tokenizer has ids"
    assert set(TOKENIZER.all_special_ids) <= set(vocabulary.specials)
    written = "Wait, 3 × 4 = 12.\n"
    assert b"".join(vocabulary.tokens[one] for one in encoder(TOKENIZER)(written)).decode() == written


def test_the_reasoning_markers_come_from_the_parser() -> None:
    calibration = Calibration({7: 0.5}, mean_reasoning_tokens=416.2)
    model = read_served_model(engine(), ParserNames("qwen3"), calibration, 0.672)
    assert TOKENIZER.convert_ids_to_tokens([*model.regions.reasoning_start, *model.regions.reasoning_end]) == [
        "<think>",
        "</think>",
    ]
    assert (model.stop, model.fork_threshold, model.frequencies) == (TOKENIZER.eos_token_id, 0.672, {7: 0.5})
    assert model.mean_reasoning_tokens == 416.2
    without = read_served_model(engine(), ParserNames(), calibration, 0.672)
    assert (without.regions.reasoning_end, without.reasoning_end) == ((), NO_TOKEN)
    assert not without.regions.has_reasoning


@pytest.mark.parametrize(
    ("generation_config", "more"), [({}, set()), ({"eos_token_id": 9}, {9}), ({"eos_token_id": [9, 11]}, {9, 11})]
)
def test_the_generation_config_adds_stop_tokens(generation_config: dict[str, Any], more: set[int]) -> None:
    model = read_served_model(engine(), ParserNames(), Calibration(), 0.672)
    assert stop_tokens(engine(generation_config), model) == {TOKENIZER.eos_token_id, *more}
