"""A request's structured outputs under its policy: what the policy bans is dropped before the model can begin it."""

from __future__ import annotations

import json
import logging
from typing import Any

import xgrammar

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.spec import Policy
from forkpoint_server.vllm_seam import (
    EngineClient,
    SamplingParams,
    StructuredOutputsParams,
    VLLMValidationError,
    compile_regex_with_timeout,
    grammar_is_likely_lark,
)

from .banned_words import BannedWords, words_banned_in
from .grammar import Grammar, UnreadableGrammarError, format_grammar, parse_grammar
from .json_patterns import write_out_patterns
from .prune import NothingLeftError, without_banned_words

logger = logging.getLogger(__name__)

XGRAMMAR = "xgrammar"
MAX_GRAMMAR_CHARACTERS = 128 * 1024
"""Of the printed grammar; it is read in the event loop, in about 0.3 s at this size. A longer one is left as it is."""


def ban_words(
    params: SamplingParams, policy: Policy, model: ServedModel, engine: EngineClient, by_request: bool
) -> None:
    """Drop the texts in which a word stands that the policy bans, from the structured outputs of these parameters.

    Raises VLLMValidationError for parameters that vLLM would reject, and where nothing remains of what the request
    allows: if it named the policy (`by_request`). Otherwise the structured outputs then stay as they are.
    """
    structured = params.structured_outputs
    if structured is None:
        return
    banned = words_banned_in(policy, ("any", "answer" if model.regions.has_reasoning else "reasoning"))
    if not banned or not _may_have(structured, banned):
        return
    _validate(params, engine)
    try:
        remaining = _without(params.structured_outputs, banned, engine)
    except NothingLeftError:
        if not by_request:
            return
        named = banned.words + banned.cased
        words = ", ".join(map(repr, named[:4])) + (", …" if len(named) > 4 else "")
        raise VLLMValidationError(
            f"structured_outputs: each text that they allow has a word that the policy bans ({words}); allow a text "
            "without these words, or leave the policy out",
            parameter="structured_outputs",
        ) from None
    if remaining is not None:
        params.structured_outputs = remaining


def _may_have(structured: Any, banned: BannedWords) -> bool:
    """Whether a banned word may be among the fixed texts; a quick look, so that ordinary schemas cost nothing."""
    if structured.json_object or structured.structural_tag:
        return False
    if structured.json is None:
        return True
    schema = structured.json if isinstance(structured.json, str) else json.dumps(structured.json, ensure_ascii=False)
    if '"pattern"' in schema or "\\u" in schema:
        return True
    return banned.occur_in(schema)


def _validate(params: SamplingParams, engine: EngineClient) -> None:
    """As vLLM does before it passes the request on: it selects the back end, and guards xgrammar's parsers."""
    processor = engine.input_processor
    params.verify(
        processor.model_config,
        processor.speculative_config,
        processor.structured_outputs_config,
        processor.tokenizer,
    )


def _without(structured: Any, banned: BannedWords, engine: EngineClient) -> StructuredOutputsParams | None:
    """The structured outputs without the banned words; None if they stay as they are. Raises NothingLeftError."""
    if structured.choice:  # another back end than xgrammar, for which vLLM makes a grammar of it
        choices = [choice for choice in structured.choice if not banned.stand_in(choice)]
        if not choices:
            raise NothingLeftError
        return None if len(choices) == len(structured.choice) else StructuredOutputsParams(choice=choices)
    if structured._backend != XGRAMMAR:  # set by vLLM's validation
        return None
    printed = str(_xgrammar_of(structured, engine))
    if len(printed) > MAX_GRAMMAR_CHARACTERS:
        return None
    try:
        grammar: Grammar = write_out_patterns(parse_grammar(printed))
    except UnreadableGrammarError as error:
        logger.debug("a grammar is left as it is: %s", error)
        return None
    pruned = without_banned_words(grammar, banned)
    return None if pruned is grammar else StructuredOutputsParams(grammar=format_grammar(pruned))


def _xgrammar_of(structured: Any, engine: EngineClient) -> xgrammar.Grammar:
    """The grammar, as vLLM's back end compiles it."""
    if structured.json is not None:
        compact = engine.input_processor.structured_outputs_config.disable_any_whitespace
        return xgrammar.Grammar.from_json_schema(
            structured.json, any_whitespace=not compact, separators=(",", ":") if compact else None
        )
    if structured.regex is not None:
        return compile_regex_with_timeout(xgrammar.Grammar.from_regex, structured.regex)
    if grammar_is_likely_lark(structured.grammar):
        return xgrammar.Grammar.from_lark(structured.grammar)
    return xgrammar.Grammar.from_ebnf(structured.grammar)
