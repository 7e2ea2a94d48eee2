"""The regions of the served model's text, reasoning, answer and tool calls, as vLLM's parsers tell them apart."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forkpoint_policies.compile.regions import (
    HOME,
    IN_REASONING,
    IN_TOOL_CALL,
    Marker,
    Region,
    Regions,
    build_regions,
    home_state,
)
from forkpoint_policies.compile.served_model import AnswerStart
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.vllm_seam import ParserState, ReasoningParserManager, ToolParserManager

logger = logging.getLogger(__name__)

REASONING_ON = {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}
"""The template options with which every parser of vLLM expects a reasoning."""

MAX_PARSERS = 32
MAX_OPTIONS_CHARS = 4096
"""Of template options whose parser is kept."""

HARMONY_REASONING = "<|channel|>analysis<|message|>"
NAMED_MARKERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openai_gptoss": ((HARMONY_REASONING,), ("<|end|>", "<|channel|>final", "<|channel|>commentary")),
    "granite": (
        ("Here is my thought process:", "Here's my thought process:"),
        ("Here is my response:", "Here's my response:"),
    ),
    "hunyuan_a13b": (("<think>",), ("</think>",)),
    "minimax_m2_append_think": (("<think>",), ("</think>",)),
}
"""What starts and what ends the reasoning, first as a policy writes it, for parsers that do not expose it."""

TOOL_CALLS = (
    ("<tool_call>", "</tool_call>"),
    ("[TOOL_CALLS]", ""),
    ("<function_call>", "</function_call>"),
    ("<tool_calls>", "</tool_calls>"),
    ("<TOOLCALL>", "</TOOLCALL>"),
    ("<|tool_call|>", ""),
    ("<|python_tag|>", ""),
    ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ("<|tool_call_begin|>", "<|tool_call_end|>"),
    ("<|tool_call_start|>", "<|tool_call_end|>"),
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001  # as DeepSeek writes it
    ("<|action_start|>", "<|action_end|>"),
    ("<|START_ACTION|>", "<|END_ACTION|>"),
    ("<start_function_call>", "<end_function_call>"),
    ("<|channel|>commentary to=", "<|call|>"),
)
"""What encloses tool calls, where vLLM's tool parser does not expose it; without an end, the call lasts to the end of
the answer."""

SPELLED_TOOL_CALLS = frozenset({"<tool_call>", "[TOOL_CALLS]", "<function_call>"})
"""Of these, the ones that models also write as ordinary text; the others count where the vocabulary has the token."""

TOOL_PARSER_FIELDS = (
    ("tool_calls_start_token", "tool_calls_end_token"),
    ("tool_call_start_token", "tool_call_end_token"),
    ("tool_start_token", "tool_end_token"),
    ("tc_start", "tc_end"),
    ("tools_open", "tools_close"),
    ("bot_token", "eot_token"),
    ("bot_string", "eot_string"),
)
"""In which attributes vLLM's tool parsers keep what encloses their calls."""


@dataclass(frozen=True)
class ParserNames:
    """`--reasoning-parser` and `--tool-call-parser`."""

    reasoning: str | None = None
    tools: str | None = None


@dataclass(frozen=True)
class ParserSetup:
    """The parsers that vLLM was started with, and what they are made of."""

    tokenizer: Any
    model_config: Any
    names: ParserNames

    def make_reasoning_parser(self, options: Mapping[str, Any]) -> Any:
        """The reasoning parser for a request with these chat template options, as vLLM makes it."""
        assert self.names.reasoning is not None
        parser = ReasoningParserManager.get_reasoning_parser(self.names.reasoning)
        return parser(self.tokenizer, chat_template_kwargs=dict(options), model_config=self.model_config)


@dataclass(frozen=True)
class Grammar:
    """Markers between home states. `initial` is where an answer starts; `start` and `end` enclose the reasoning as a
    policy writes them; `single_tokens` are markers that count only as that token."""

    markers: tuple[Marker, ...] = ()
    initial: int = Region.REASONING
    start: str = ""
    end: str = ""
    single_tokens: Mapping[str, int] | None = None
    unfollowed: str = ""


class AnswerStarts:
    """Where answers start, by their prompts and the options of their reasoning parsers."""

    def __init__(self, setup: ParserSetup, regions: Regions, homes: Mapping[ParserState, int]) -> None:
        self._setup = setup
        self._regions = regions
        self._homes = homes
        self._parsers: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, prompt: Sequence[int], parser_options: Mapping[str, Any] | None) -> AnswerStart:
        regions, name = self._regions, self._setup.names.reasoning
        if name is None or regions.unfollowed:
            return AnswerStart(regions.start, regions.start)
        parser = self._parser((parser_options or {}).get("chat_template_kwargs") or {})
        state = regions.start
        if name not in NAMED_MARKERS and parser.is_reasoning_end(list(prompt)):
            state = Region.ANSWER
        elif not state & IN_REASONING:
            state = regions.follow(prompt, state) & HOME
            state = state if state & IN_REASONING else regions.start
        initial = engine_config(parser).initial_state if engine_config(parser) is not None else None
        counted = state if parser_options is None or initial is None else self._homes.get(initial, state)
        return AnswerStart(state, counted if not state & IN_REASONING else state)

    def _parser(self, options: Mapping[str, Any]) -> Any:
        """The parser for these template options; those used last are kept: to make one takes a millisecond."""
        key = json.dumps(options, sort_keys=True, default=repr)
        parser = self._parsers.pop(key, None) or self._setup.make_reasoning_parser(options)
        if len(key) <= MAX_OPTIONS_CHARS:
            self._parsers[key] = parser
            while len(self._parsers) > MAX_PARSERS:
                self._parsers.popitem(last=False)
        return parser


def read_regions(
    setup: ParserSetup, vocabulary: Vocabulary, encode: Callable[[str], list[int]]
) -> tuple[Regions, AnswerStarts]:
    """The regions by the parsers of vLLM, and where answers start in them."""
    homes: dict[ParserState, int] = {}
    grammar = Grammar() if setup.names.reasoning is None else _reasoning_grammar(setup, homes)
    vocab = setup.tokenizer.get_vocab()
    grammar = _with_tool_calls(grammar, setup, vocab)

    single_tokens = grammar.single_tokens or {}

    def written(text: str) -> tuple[int, ...]:
        if not text:
            return ()
        return (single_tokens[text],) if text in single_tokens else tuple(encode(text))

    regions = build_regions(
        grammar.markers,
        vocabulary,
        single_tokens,
        start=grammar.initial,
        reasoning_start=written(grammar.start),
        reasoning_end=written(grammar.end),
        unfollowed=grammar.unfollowed,
        uncounted=vocabulary.specials,
    )
    return regions, AnswerStarts(setup, regions, homes)


def engine_config(parser: Any) -> Any:
    """The declarative grammar of a parser that vLLM's parser engine runs; None for others."""
    engine = getattr(parser, "_parser_engine", None)
    return None if engine is None else engine.parser_engine_config


def _reasoning_grammar(setup: ParserSetup, homes: dict[ParserState, int]) -> Grammar:
    """The grammar of the reasoning parser; `homes` receives the home states of a parser engine's states."""
    name, vocab = setup.names.reasoning or "", setup.tokenizer.get_vocab()
    if name in NAMED_MARKERS:
        starts, ends = NAMED_MARKERS[name]
        single = {text: vocab[text] for text in (*starts, *ends) if text in vocab}
        return Grammar(tuple(_enclosing(starts, ends)), Region.ANSWER, starts[0], ends[0], single)
    parser = setup.make_reasoning_parser(REASONING_ON)
    if (config := engine_config(parser)) is not None:
        return _engine_grammar(config, parser, vocab, homes)
    start, end = parser.reasoning_start_str or "", parser.reasoning_end_str or ""
    if not end:
        said = f"cannot be used: vLLM's reasoning parser {name!r} does not name the markers of the reasoning"
        return Grammar(unfollowed=said)
    single = {text: vocab[text] for text in (start, end) if text in vocab}
    if _assumes_reasoning(parser):  # and never begins another one
        markers = [marker for marker in _enclosing((start,), (end,)) if marker.source == Region.REASONING]
        return Grammar(tuple(markers), Region.REASONING, start, end, single)
    return Grammar(tuple(_enclosing((start,), (end,))), Region.ANSWER, start, end, single)


def _enclosing(starts: Sequence[str], ends: Sequence[str]) -> Iterator[Marker]:
    for start in starts:
        yield Marker(Region.ANSWER, start, Region.REASONING)
        yield Marker(Region.REASONING, start, Region.REASONING)
    for end in ends:
        yield Marker(Region.REASONING, end, Region.ANSWER)


def _assumes_reasoning(parser: Any) -> bool:
    """Whether an output without markers is reasoning."""
    try:
        reasoning, _ = parser.extract_reasoning("x", None)
    except Exception:  # noqa: BLE001  # some parsers only find boundaries, and raise
        return False
    return bool(reasoning == "x")


def _engine_grammar(config: Any, parser: Any, vocab: Mapping[str, int], homes: dict[ParserState, int]) -> Grammar:
    """The transitions of a parser engine, between the states that differ in what follows."""
    transitions: dict[tuple[ParserState, str], ParserState] = {
        key: transition.next_state
        for key, transition in config.transitions.items()
        if not transition.skip_in_token_id_mode
    }
    homes |= _home_states({config.initial_state, *ParserState}, transitions)
    spellings = {name: (text,) if isinstance(text, str) else text for name, text in config.terminals.items()}
    single = {name: {text: vocab[text]} for name, text in config.token_id_terminals.items() if text in vocab}
    markers = {
        Marker(homes[source], text, homes[target])
        for (source, terminal), target in transitions.items()
        for text in single.get(terminal, spellings.get(terminal, ()))
        if homes[source] != homes[target] or source is ParserState.REASONING
    }
    return Grammar(
        tuple(sorted(markers, key=lambda marker: (marker.source, marker.text))),
        homes[config.initial_state],
        parser.reasoning_start_str or "",
        parser.reasoning_end_str or "",
        {text: token for one in single.values() for text, token in one.items()},
    )


def _home_states(
    states: Iterable[ParserState], transitions: Mapping[tuple[ParserState, str], ParserState]
) -> dict[ParserState, int]:
    """A home for each state; states of one kind that the same markers lead on from share it."""
    kinds = {ParserState.CONTENT: Region.ANSWER, ParserState.REASONING: Region.REASONING}
    kinds[ParserState.MESSAGE_HEADER] = Region.ANSWER
    kind_of = {state: kinds.get(state, Region.TOOL_CALL) for state in states}
    found: dict[ParserState, Any] = dict(kind_of)
    while True:
        leads = {
            state: frozenset(
                (terminal, found[target])
                for (source, terminal), target in transitions.items()
                if source is state and found[target] != found[state]
            )
            for state in found
        }
        refined = {state: (found[state], leads[state]) for state in found}
        if len(set(refined.values())) == len(set(found.values())):
            break
        numbers = {one: number for number, one in enumerate(dict.fromkeys(refined.values()))}
        found = {state: (kind_of[state], numbers[refined[state]]) for state in found}
    used: dict[Region, dict[Any, int]] = {}
    order = sorted(found, key=lambda state: (state not in kinds or state is ParserState.MESSAGE_HEADER, state.value))
    return {
        state: home_state(
            kind_of[state], used.setdefault(kind_of[state], {}).setdefault(found[state], len(used[kind_of[state]]))
        )
        for state in order
    }


def _with_tool_calls(grammar: Grammar, setup: ParserSetup, vocab: Mapping[str, int]) -> Grammar:
    """The grammar with the tool calls that the reasoning parser does not know of."""
    known = {marker.text for marker in grammar.markers}
    homes = {grammar.initial, *(one for marker in grammar.markers for one in (marker.source, marker.target))}
    numbers = {kind: 1 + max((home >> 2 for home in homes if home & 3 == kind), default=-1) for kind in Region}
    more: list[Marker] = []
    single = dict(grammar.single_tokens or {})
    for start, end in _tool_calls(setup, vocab):
        if start in known:
            continue
        single |= {text: vocab[text] for text in (start, end) if text in vocab}
        for home in sorted(homes):
            if home & IN_TOOL_CALL:
                continue
            kind = Region(home & IN_REASONING | IN_TOOL_CALL)
            inside = home_state(kind, numbers[kind])
            numbers[kind] += 1
            more.append(Marker(home, start, inside))
            if end:
                more.append(Marker(inside, end, home))
    return replace(grammar, markers=(*grammar.markers, *more), single_tokens=single)


def _tool_calls(setup: ParserSetup, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """What starts and ends a tool call: as the tool parser exposes it, else what models are known to write."""
    if setup.names.tools is not None:
        try:
            parser: Any = ToolParserManager.get_tool_parser(setup.names.tools)(setup.tokenizer)
        except Exception:  # noqa: BLE001  # vLLM does not use it either: it stops at the start where it would
            logger.warning("the tool parser %s cannot be used with this model's tokenizer", setup.names.tools)
        else:
            if exposed := _exposed_tool_calls(parser):
                return exposed
    return [pair for pair in TOOL_CALLS if pair[0] in vocab or pair[0] in SPELLED_TOOL_CALLS]


def _exposed_tool_calls(parser: Any) -> list[tuple[str, str]]:
    """The markers in a tool parser's grammar or attributes."""
    if (config := engine_config(parser)) is not None:
        plain = (ParserState.CONTENT, ParserState.REASONING, ParserState.MESSAGE_HEADER)
        starts, ends = (
            {
                terminal
                for (source, terminal), transition in config.transitions.items()
                if (source in plain) == leaving and (transition.next_state in plain) != leaving
            }
            for leaving in (True, False)
        )
        texts = {name: (text,) if isinstance(text, str) else text for name, text in config.terminals.items()}
        end = next((texts[name][0] for name in sorted(ends) if texts.get(name)), "")
        return [(text, end) for name in sorted(starts) for text in texts.get(name, ())]
    for start, end in TOOL_PARSER_FIELDS:
        found = getattr(parser, start, None)
        if isinstance(found, str) and found:
            closing = getattr(parser, end, None)
            return [(found, closing if isinstance(closing, str) else "")]
    return []
