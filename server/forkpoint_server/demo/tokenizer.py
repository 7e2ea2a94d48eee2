"""The embedded model's tokenizer: byte-level BPE on its own corpus, every number and connector a single token."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CONNECTORS = ("Wait", "Hmm", "Alternatively", "Instead", "Therefore", "Then", "So", "Maybe", "Let's")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] or [] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>' -}}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer for these texts, of about 500 tokens.

    Connectors and the numbers 0 to 99 each get a token with a leading space and one without.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z']+| ?\d+| ?[^\sA-Za-z\d]+|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    forms = [f"{space}{word}" for word in (*CONNECTORS, *map(str, range(100))) for space in ("", " ")]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,  # more than there are pieces: training stops when every piece is one token
        min_frequency=50,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((*texts, *(form for form in forms for _ in range(100))), trainer)
    return tokenizer


def for_serving(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as vLLM loads it, with the chat template that opens the reasoning."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )
