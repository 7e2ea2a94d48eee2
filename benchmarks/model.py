"""A model folder with the cost of Qwen3-0.6B: its shape, random weights, and a generated tokenizer."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from forkpoint_policies.spec.connectors import FAMILIES, NOWAIT_WORDS, THINKING_WORDS
from forkpoint_server.demo.tokenizer import SPECIAL, for_serving

VOCABULARY = 151_936
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", "vocab_size": VOCABULARY,
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
    "max_position_embeddings": 40_960,
    "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "tie_word_embeddings": True,
    "use_sliding_window": False, "sliding_window": None, "eos_token_id": SPECIAL.index("<|im_end|>"),
    "bos_token_id": None,
}  # fmt: skip
SPACE = "Ġ"  # how byte-level tokenizers write it


def write_qwen(folder: Path) -> Path:
    """The folder, to be served with `--load-format dummy`."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for_serving(build_tokenizer()).save_pretrained(folder)
    return folder


def build_tokenizer(size: int = VOCABULARY) -> Tokenizer:
    """Untrained byte-level BPE with exactly this many tokens: bytes, the policies' words, strings of letters."""
    vocabulary = {
        token: number for number, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))
    }
    merges: list[tuple[str, str]] = []
    for text in _texts():
        for end in range(2, len(text) + 1):
            if len(vocabulary) < size and text[:end] not in vocabulary:
                vocabulary[text[:end]] = len(vocabulary)
                merges.append((text[: end - 1], text[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))  # a word that is a token is taken whole
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    assert tokenizer.get_vocab_size() == size
    return tokenizer


def _texts() -> list[str]:
    """What shall be one token, the most important first, until the vocabulary is full."""
    families = (*FAMILIES.values(), NOWAIT_WORDS, THINKING_WORDS)
    words = dict.fromkeys(word.lower() for family in families for word in family if word.isalpha())
    forms = [form for word in words for form in (word, word.capitalize())]
    letters = [
        first + "".join(rest)
        for length in (1, 2, 3)
        for first in ascii_lowercase + ascii_uppercase
        for rest in product(ascii_lowercase, repeat=length)
    ]
    return [space + text for texts in (forms, letters) for text in texts for space in ("", SPACE)]
