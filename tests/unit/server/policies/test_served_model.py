"""The served model as the compiler needs it, read from the embedded model's tokenizer."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from vllm.tokenizers.mistral import MistralTokenizer

from forkpoint_policies.catalog import library
from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_policies.compile.regions import single_token_regions
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.policies.served_model import encoder, read_served_model, read_vocabulary, stop_tokens
from forkpoint_server.policies.text_regions import ParserNames
from tests.unit.policies.hidden.artefact_files import VECTOR, readout

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
    model = read_served_model(engine(), ParserNames("qwen3"), {7: 0.5}, 0.672, 416.2)
    assert TOKENIZER.convert_ids_to_tokens([*model.regions.reasoning_start, *model.regions.reasoning_end]) == [
        "<think>",
        "</think>",
    ]
    assert (model.stop, model.fork_threshold, model.frequencies) == (TOKENIZER.eos_token_id, 0.672, {7: 0.5})
    assert model.mean_reasoning_tokens == 416.2
    without = read_served_model(engine(), ParserNames(), {}, 0.672, None)
    assert (without.regions.reasoning_end, without.reasoning_end) == ((), NO_TOKEN)
    assert not without.regions.has_reasoning


@pytest.mark.parametrize(
    ("generation_config", "more"), [({}, set()), ({"eos_token_id": 9}, {9}), ({"eos_token_id": [9, 11]}, {9, 11})]
)
def test_the_generation_config_adds_stop_tokens(generation_config: dict[str, Any], more: set[int]) -> None:
    model = read_served_model(engine(), ParserNames(), {}, 0.672, None)
    assert stop_tokens(engine(generation_config), model) == {TOKENIZER.eos_token_id, *more}


def metaspace_tokenizer(scheme: str) -> Any:
    """In the style of SentencePiece, with a space put before the first word, before every text, or never."""
    text = ["Wait, let me check. Therefore the answer is 7. Wait, hmm, alternatively so now, but however verify"] * 50
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=scheme == "always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    return fast


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_texts_are_written_without_the_space_that_a_tokenizer_puts_before_them(scheme: str) -> None:
    tokenizer = metaspace_tokenizer(scheme)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    encode = encoder(tokenizer, vocabulary)
    for text in ("Wait", " Wait", "\n\nWait, so", "let", "  x", "7.\n", "\n", "é", " the answer is 7"):
        assert b"".join(vocabulary.tokens[one] for one in encode(text)) == text.encode()
    markers = (tokenizer.convert_tokens_to_ids(name) for name in ("<think>", "</think>"))
    model = ServedModel(
        vocabulary,
        fork_threshold=0.672,
        regions=single_token_regions(*markers),
        stop=2,
        encode=encode,
        artefacts={"correct": readout(), "seal": VECTOR},
        hidden_layers=VECTOR.layers,
        recycle_layers=(23,),
    )
    for named in library():
        compile_policy(named.policy, model)


def mistral_tokenizers() -> list[Path]:
    folder = Path(str(importlib.util.find_spec("mistral_common").origin)).parent / "data"  # type: ignore[union-attr]
    return [folder / name for name in ("tekken_240911.json", "mistral_instruct_tokenizer_240323.model.v3")]


@pytest.mark.parametrize("file", mistral_tokenizers(), ids=["tekken", "sentencepiece"])
def test_mistrals_tokenizers_are_read(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / ("tekken.json" if file.suffix == ".json" else "tokenizer.model.v3"))
    tokenizer = MistralTokenizer.from_pretrained(str(tmp_path))
    vocabulary = read_vocabulary(tokenizer, tokenizer.vocab_size + 3)
    assert vocabulary.size == tokenizer.vocab_size + 3
    encode = encoder(tokenizer, vocabulary)
    for text in ("Wait", " Wait, hmm", "\n\nWait", "3 × 4 = 12", "é—等", "</s>"):
        assert b"".join(vocabulary.tokens[one] for one in encode(text)) == text.encode()
        assert not vocabulary.specials.intersection(encode(text))
    assert vocabulary.tokens[tokenizer.eos_token_id] == b"</s>"
    assert {tokenizer.bos_token_id, tokenizer.eos_token_id} <= vocabulary.specials
