"""The regions of every reasoning parser that vLLM has, with a tokenizer that has every marker as a token."""

from __future__ import annotations

import re
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm.reasoning import ReasoningParserManager

from forkpoint_policies.compile.regions import HOME, IN_REASONING, IN_TOOL_CALL, Region, Regions
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.policies.served_model import encoder, read_vocabulary
from forkpoint_server.policies.text_regions import REASONING_ON, AnswerStarts, ParserNames, ParserSetup, read_regions
from tests.unit.policies.vocabularies import byte_vocabulary

BYTES = byte_vocabulary()
FIRST_MARKER = 1000
UNFOLLOWED = {"hf", "muse_glimmer"}
"""docs/policies.md names them."""

MARKER = re.compile(r"<[^<>]*>|\[/?[A-Z_]+\]|</?|Ġ</|think|>")

TOOL_CALLS = {
    "deepseek_v4": "<｜DSML｜tool_calls>",  # noqa: RUF001  # as DeepSeek writes it
    "gemma4": "<|tool_call>",
    "glm45": "<tool_call>",
    "kimi_k2": "<|tool_calls_section_begin|>",
    "minimax_m2": "<minimax:tool_call>",
    "mistral": "[TOOL_CALLS]",
    "nemotron_v3": "<tool_call>",
    "qwen3": "<tool_call>",
    "seed_oss": "<seed:tool_call>",
}
"""By reasoning parser, the marker of a tool call that ends the reasoning."""


class EveryMarker(dict[str, int]):
    """A tokenizer's vocabulary that has each marker by the time it is asked for it."""

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and MARKER.fullmatch(text) is not None

    def __getitem__(self, text: str) -> int:
        return self.setdefault(text, FIRST_MARKER + len(self))

    def get(self, text: str, default: Any = None) -> Any:
        return self[text] if text in self else default  # noqa: SIM401  # it is `get`


class MarkerTokenizer:
    """Writes markers as one token, and all other text as bytes."""

    def __init__(self) -> None:
        self.vocab = EveryMarker()
        self.all_special_tokens: list[str] = []
        self.all_special_ids: list[int] = []
        self.init_kwargs: dict[str, Any] = {}

    def get_vocab(self) -> EveryMarker:
        return self.vocab

    def convert_tokens_to_ids(self, text: str) -> int:
        return self.vocab[text]

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(text.encode())


def regions_of(reasoning: str | None, tools: str | None = None) -> tuple[Regions, AnswerStarts, EveryMarker]:
    tokenizer = MarkerTokenizer()
    setup = ParserSetup(tokenizer, None, ParserNames(reasoning, tools))
    return *read_regions(setup, BYTES, tokenizer.encode), tokenizer.vocab


@pytest.mark.parametrize("name", sorted(set(ReasoningParserManager.list_registered()) - UNFOLLOWED))
def test_the_reasoning_of_every_parser_starts_and_ends(name: str) -> None:
    regions, start_of, _ = regions_of(name)
    assert not regions.unfollowed
    assert regions.has_reasoning
    start = start_of(regions.reasoning_start, {"chat_template_kwargs": REASONING_ON}).region
    if not start & IN_REASONING:  # the model opens its reasoning itself, whatever its prompt ends with
        start = regions.follow(regions.reasoning_start, start)
    assert start & HOME & (IN_REASONING | IN_TOOL_CALL) == Region.REASONING
    assert regions.follow([*b"so"], start) & IN_REASONING
    assert regions.follow([*b"so", *regions.reasoning_end, *b"so"], start) & HOME & 3 == Region.ANSWER


@pytest.mark.parametrize("name", TOOL_CALLS)
def test_a_tool_call_ends_the_reasoning_where_it_does_for_the_parser(name: str) -> None:
    regions, start_of, vocab = regions_of(name)
    start = start_of(regions.reasoning_start, {"chat_template_kwargs": REASONING_ON}).region
    if not start & IN_REASONING:
        start = regions.follow(regions.reasoning_start, start)
    inside = regions.follow([*b"so", vocab[TOOL_CALLS[name]], *b"so"], start)
    assert inside & HOME & 3 == Region.TOOL_CALL


@pytest.mark.parametrize("name", sorted(UNFOLLOWED - {"hf"}))
def test_parsers_that_do_not_name_their_markers_are_known(name: str) -> None:
    regions, _, _ = regions_of(name)
    assert name in regions.unfollowed
    assert not regions.has_reasoning


@pytest.mark.parametrize(("reasoning", "tools"), [("deepseek_r1", "hermes"), (None, "hermes"), ("deepseek_r1", None)])
def test_tool_calls_of_another_parser_keep_the_region(reasoning: str | None, tools: str | None) -> None:
    regions, _, vocab = regions_of(reasoning, tools)
    call, end = vocab["<tool_call>"], vocab["</tool_call>"]
    inside = regions.follow([*b"so", call, *b"{}"], Region.REASONING)
    assert inside & 3 == Region.TOOL_CALL_IN_REASONING
    assert regions.follow([end], inside) == Region.REASONING


def test_the_tool_parser_says_which_markers_count() -> None:
    regions, _, vocab = regions_of("deepseek_r1", "longcat")
    assert regions.follow([vocab["<longcat_tool_call>"]], Region.REASONING) & IN_TOOL_CALL
    assert not regions.follow([vocab["<tool_call>"]], Region.REASONING) & IN_TOOL_CALL


@pytest.mark.parametrize(
    ("prompt", "options", "region", "counted"),
    [
        ("so", {}, Region.REASONING, Region.REASONING),
        ("so", None, Region.REASONING, Region.REASONING),
        ("so</think>7 *", {}, Region.ANSWER, Region.REASONING),  # vLLM counts from its parser's state, not the prompt's
        ("so</think>7 *", None, Region.ANSWER, Region.ANSWER),
        ("so</think>7<think>", {}, Region.REASONING, Region.REASONING),
        ("so", {"enable_thinking": False}, Region.ANSWER, Region.ANSWER),
    ],
)
def test_where_answers_of_the_embedded_model_start(
    prompt: str, options: dict[str, Any] | None, region: int, counted: int
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(WEIGHTS)
    setup = ParserSetup(tokenizer, None, ParserNames("qwen3"))
    regions, start_of = read_regions(setup, read_vocabulary(tokenizer, len(tokenizer)), encoder(tokenizer))
    parser_options = None if options is None else {"chat_template_kwargs": options}
    assert start_of(encoder(tokenizer)(prompt), parser_options) == (region, counted)
    spelled = encoder(tokenizer)('3 +<tool_call>\n{"name": "f"}\n</tool_call> no')
    assert regions.read(spelled, Region.REASONING).num_reasoning_tokens == len(encoder(tokenizer)("3 +"))
