"""Markers of regions in every spelling, against a search in the text itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.regions import (
    HOME,
    UNMARKED,
    Marker,
    Region,
    Regions,
    build_regions,
    home_state,
    single_token_regions,
)
from tests.unit.policies.factories import compiled, policy, rule
from tests.unit.policies.vocabularies import END, END_THINK, TARGET, THINK, byte_vocabulary, encode

SPELLED = byte_vocabulary("</", "think", ">\n", ".</", "x<", ">7", "tool", "<tool>", "</tool>", "</think>", "ab")
REASONING, ANSWER, TOOL_CALL = Region.REASONING, Region.ANSWER, Region.TOOL_CALL
MARKERS = (
    Marker(REASONING, "</think>", ANSWER),
    Marker(REASONING, "<tool>", TOOL_CALL),
    Marker(ANSWER, "<tool>", TOOL_CALL),
    Marker(TOOL_CALL, "</tool>", ANSWER),
)
REGIONS = build_regions(MARKERS, SPELLED)


def spelled(*pieces: str) -> list[int]:
    return [SPELLED.tokens.index(piece.encode()) for piece in pieces]


def text_state(text: str) -> int:
    """The region after a text, found in the text."""
    state, read = int(REASONING), ""
    for character in text:
        read += character
        for marker in MARKERS:
            if marker.source == state and read.endswith(marker.text):
                state, read = marker.target, ""
                break
    return state


@given(st.lists(st.sampled_from([60, 47, 62, 116, *range(256, SPELLED.size - 3)]), max_size=24))
def test_every_spelling_of_a_marker_counts(tokens: list[int]) -> None:
    text = b"".join(SPELLED.tokens[token] for token in tokens).decode()
    assert REGIONS.follow(tokens, REASONING) & HOME == text_state(text)


def test_the_kernel_follows_the_same_regions_on_the_host() -> None:
    program = Program([], False, list(REGIONS.moves), -1, [], [], b"")
    tokens = spelled("ab", ".</", "think", ">7", "<tool>")
    assert program.follow(tokens)[1] == REGIONS.follow(tokens, REASONING) == TOOL_CALL


@pytest.mark.parametrize(
    ("pieces", "in_reasoning", "num_reasoning", "answer_start", "reasoning_end"),
    [
        (("ab", "</", "think", ">\n", "ab"), "11110", 1, 4, 1),
        (("ab", ".</", "think", ">\n", "ab"), "11110", 2, 4, 2),  # a token that starts before the marker counts
        (("ab", "<", "</", "think", ">7"), "11111", 2, 5, 2),
        (("</", "think", "ab"), "111", 3, 0, None),  # no marker after all
        (("ab", "<tool>", "ab", "</tool>", "ab"), "10000", 1, 1, 1),  # the call is sent with the answer
        (("ab", "<", "tool", ">7", "</", "tool", ">7"), "1000000", 1, 1, 1),
        (("ab", "</think>", "<tool>", "ab"), "1100", 1, 2, 1),
        ((), "", 0, 0, None),
    ],
)
def test_what_is_reasoning_and_how_much_of_it(
    pieces: tuple[str, ...], in_reasoning: str, num_reasoning: int, answer_start: int, reasoning_end: int | None
) -> None:
    tokens = spelled(*pieces)
    reader = REGIONS.read(tokens, REASONING)
    assert "".join(map(str, reader.in_reasoning)) == in_reasoning
    assert (reader.num_reasoning_tokens, reader.answer_start) == (num_reasoning, answer_start)
    assert reader.reasoning_end == reasoning_end
    grown = REGIONS.read([], REASONING)
    for length in range(len(tokens) + 1):
        grown.read(tokens[:length])
    assert grown == reader, "token by token as all at once"


def test_where_the_tokens_end() -> None:
    assert REGIONS.read(spelled("ab", "</"), REASONING).ends_in_reasoning
    assert not REGIONS.read(spelled("ab", "</think>"), REASONING).ends_in_reasoning
    assert REGIONS.read(spelled("<tool>", "ab"), REASONING).ends_in_tool_call
    assert not UNMARKED.read(spelled("ab"), REASONING).ends_in_reasoning, "nothing tells reasoning and answer apart"


def test_a_marker_that_is_one_token_is_not_looked_for_in_the_text() -> None:
    whole = SPELLED.tokens.index(b"</think>")
    regions = build_regions(MARKERS, SPELLED, {"</think>": whole})
    assert regions.follow(spelled("</", "think", ">\n"), REASONING) & HOME == REASONING
    assert regions.follow([whole], REASONING) == ANSWER


def test_a_tool_call_within_the_reasoning_returns_to_it() -> None:
    inside = home_state(Region.TOOL_CALL_IN_REASONING, 3)
    regions = build_regions([Marker(REASONING, "<tool>", inside), Marker(inside, "</tool>", REASONING)], SPELLED)
    reader = regions.read(spelled("<tool>", "ab"), REASONING)
    assert reader.ends_in_tool_call
    assert list(reader.in_reasoning) == [True, True]
    assert regions.follow(spelled("<tool>", "ab", "</tool>"), REASONING) == REASONING
    assert not regions.has_reasoning


def test_single_tokens_open_and_close_the_reasoning() -> None:
    regions = single_token_regions(THINK, END_THINK)
    reader = regions.read([THINK, 5, END_THINK, 6], REASONING)
    assert (reader.num_reasoning_tokens, reader.answer_start, list(reader.in_reasoning)) == (1, 3, [1, 1, 1, 0])
    assert regions.follow([END_THINK, THINK], REASONING) == REASONING
    assert regions.has_reasoning
    assert not UNMARKED.has_reasoning


def test_special_tokens_are_not_counted() -> None:
    regions = replace(single_token_regions(THINK, END_THINK), uncounted=frozenset({END, END_THINK}))
    assert regions.read([5, 6, END], REASONING).num_reasoning_tokens == 2
    assert regions.read([5, 6, END_THINK, END], REASONING).num_reasoning_tokens == 2


def test_a_policy_ends_the_reasoning_with_every_token_of_the_marker() -> None:
    end = tuple(encode("</so>"))
    regions = Regions(moves=((REASONING, end[-1], ANSWER),), reasoning_end=end)
    target = replace(TARGET, regions=regions)
    program = compiled(policy(rule({"after_token": 4}, end_reasoning={})), target)
    assert program.rules[0].text == list(end)
    assert program.reasoning_end == -1
