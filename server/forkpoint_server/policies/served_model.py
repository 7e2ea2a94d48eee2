"""The served model as the compiler needs it: vocabulary, regions, stop tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xgrammar

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.calibration.token_frequencies import Calibration
from forkpoint_server.vllm_seam import EngineClient

from .text_regions import ParserNames, ParserSetup, read_regions


def read_served_model(
    engine: EngineClient, parsers: ParserNames, calibration: Calibration, fork_threshold: float
) -> ServedModel:
    """The served model as policies are compiled for it; the threshold in nats."""
    tokenizer: Any = engine.renderer.tokenizer
    vocabulary = read_vocabulary(tokenizer, engine.model_config.get_vocab_size())
    setup = ParserSetup(tokenizer, engine.model_config, parsers)
    regions, start_of = read_regions(setup, vocabulary, encoder(tokenizer))
    return ServedModel(
        vocabulary=vocabulary,
        fork_threshold=fork_threshold,
        regions=regions,
        start_of=start_of,
        stop=NO_TOKEN if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        encode=encoder(tokenizer),
        frequencies=calibration.frequencies,
        mean_reasoning_tokens=calibration.mean_reasoning_tokens,
    )


def stop_tokens(engine: EngineClient, model: ServedModel) -> frozenset[int]:
    """The tokens that end the model's answers: the tokenizer's, and those of its generation config."""
    more = engine.input_processor.generation_config_fields.get("eos_token_id")
    found = {model.stop, *(more if isinstance(more, list) else [more])}
    return frozenset(token for token in found if isinstance(token, int) and token != NO_TOKEN)


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """A function from a text in the middle of an answer to its tokens."""
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False))


def read_vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The bytes of each token, for any tokenizer that vLLM loads."""
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    specials = {*info.special_token_ids, *tokenizer.all_special_ids}
    return Vocabulary(tuple(info.decoded_vocab), frozenset(specials))
