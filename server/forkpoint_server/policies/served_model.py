"""The served model as the compiler needs it: vocabulary, regions, stop tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import xgrammar

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.vllm_seam import EngineClient, is_mistral_tokenizer

from .text_regions import ParserNames, ParserSetup, read_regions


def read_served_model(
    engine: EngineClient,
    parsers: ParserNames,
    frequencies: Mapping[int, float],
    fork_threshold: float,
    mean_reasoning_tokens: float | None,
) -> ServedModel:
    """The served model as policies are compiled for it; the threshold in nats."""
    tokenizer: Any = engine.renderer.tokenizer
    vocabulary = read_vocabulary(tokenizer, engine.model_config.get_vocab_size())
    setup = ParserSetup(tokenizer, engine.model_config, parsers)
    encode = encoder(tokenizer, vocabulary)
    regions, start_of = read_regions(setup, vocabulary, encode)
    return ServedModel(
        vocabulary=vocabulary,
        fork_threshold=fork_threshold,
        regions=regions,
        start_of=start_of,
        stop=NO_TOKEN if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        encode=encode,
        frequencies=frequencies,
        mean_reasoning_tokens=mean_reasoning_tokens,
    )


def stop_tokens(engine: EngineClient, model: ServedModel) -> frozenset[int]:
    """The tokens that end the model's answers: the tokenizer's, and those of its generation config."""
    more = engine.input_processor.generation_config_fields.get("eos_token_id")
    found = {model.stop, *(more if isinstance(more, list) else [more])}
    return frozenset(token for token in found if isinstance(token, int) and token != NO_TOKEN)


CONTEXTS = ("\n", ".", "a", " ")
"""What may stand before a text, for tokenizers that put a space before the first word of what they encode."""


def encoder(tokenizer: Any, vocabulary: Vocabulary | None = None) -> Callable[[str], list[int]]:
    """A function from a text in the middle of an answer to its tokens.

    Tokenizers in SentencePiece's style put a space before a text. Such a text is encoded after others, which are then
    cut off; if that does not write it either, it gets the longest tokens that do.
    """

    @cache
    def tokens() -> Sequence[bytes]:
        return (vocabulary or read_vocabulary(tokenizer, len(tokenizer))).tokens

    @cache
    def by_text() -> dict[bytes, int]:
        specials = (vocabulary or read_vocabulary(tokenizer, len(tokenizer))).specials
        return {written: one for one, written in enumerate(tokens()) if written and one not in specials}

    def writes(found: Sequence[int], text: str) -> bool:
        return b"".join(tokens()[one] for one in found) == text.encode(errors="replace")

    def encode(text: str) -> list[int]:
        plain: list[int] = list(tokenizer.encode(text, add_special_tokens=False))
        if writes(plain, text):
            return plain
        for context in CONTEXTS:
            before = list(tokenizer.encode(context, add_special_tokens=False))
            both = list(tokenizer.encode(context + text, add_special_tokens=False))
            if both[: len(before)] == before and writes(both[len(before) :], text):
                return both[len(before) :]
        spelled = _longest_first(text.encode(errors="replace"), by_text())
        return plain if spelled is None else spelled

    return encode


def _longest_first(text: bytes, by_text: Mapping[bytes, int]) -> list[int] | None:
    """The longest token that the text starts with, and so on; None where there is none."""
    longest, found = max(map(len, by_text), default=0), list[int]()
    while text:
        size = next((size for size in range(min(longest, len(text)), 0, -1) if text[:size] in by_text), None)
        if size is None:
            return None
        found.append(by_text[text[:size]])
        text = text[size:]
    return found


def read_vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The bytes of each token, for any tokenizer that vLLM loads."""
    if is_mistral_tokenizer(tokenizer):
        return _mistral_vocabulary(tokenizer, size)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    specials = {*info.special_token_ids, *tokenizer.all_special_ids}
    return Vocabulary(tuple(info.decoded_vocab), frozenset(specials))


def _mistral_vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The same for `--tokenizer-mode mistral`, whose tokenizers xgrammar does not read itself."""
    own, count = tokenizer.tokenizer, tokenizer.vocab_size
    specials = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    if tokenizer.is_tekken:
        pieces = [b"" if token in specials else own.id_to_byte_piece(token) for token in range(count)]
    else:
        named = [own.id_to_piece(token) for token in range(count)]
        pieces = list(xgrammar.TokenizerInfo(named, xgrammar.VocabType.BYTE_FALLBACK).decoded_vocab)
    for token, text in specials.items():
        pieces[token] = text.encode()
    return Vocabulary((*pieces, *[b""] * (size - count)), frozenset(specials))
