"""Programs as padded tensors: padding does nothing, and the device follows words as the host does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE
from forkpoint_policies.kernel.device_lookups import Moves
from forkpoint_policies.kernel.device_rules import NEVER, SET_CHUNK, Rules, belongs
from forkpoint_policies.kernel.device_tables import build_program_tables, build_tables, join_tables
from tests.unit.policies.factories import compiled, policy, rule
from tests.unit.policies.vocabularies import SIZE, tokens

CPU = torch.device("cpu")
NOTHING = compiled(policy())
WAIT = compiled(policy(rule(suppress={"words": ["wait", "double-check"]})))
MANY = compiled(
    policy(
        rule(
            {"connectors": ["conclusion"], "connector_probability_above": 0.1},
            amplify={"connectors": ["reflection"], "bias": 1.5},
        ),
        rule(
            {"entropy_above": 1.25, "at_most": 4, "region": "answer"},
            suppress={"token_ids": list(range(SET_CHUNK + 1))},
        ),
        rule({"after_token": 2, "before_token": 9, "top_probability_below": 0.5}, temperature=1.25),
    )
)
NUMBERS = compiled(policy(rule(suppress={"token_ids": [1, 2]})))
CHINESE = compiled(policy(rule(suppress={"words": ["等等", "in conclusion", "let's"]})))
PROGRAMS = [NOTHING, WAIT, MANY, NUMBERS, CHINESE]


def build_rules(programs: list[Program], device: torch.device) -> Rules:
    return build_tables(programs, SIZE, device).rules


def build_moves(programs: list[Program], size: int, device: torch.device) -> Moves | None:
    return build_tables(programs, size, device).moves


@pytest.mark.parametrize("programs", [PROGRAMS, PROGRAMS[::-1], [MANY], [NOTHING]])
def test_rules_are_where_their_program_is(programs: list[Program]) -> None:
    tables = build_rules(programs, CPU)
    for index, program in enumerate(programs):
        for number, one in enumerate(program.rules):
            assert tables.strength[index, number].tolist() == [
                one.strength.shape,
                one.strength.a,
                one.strength.b,
                one.strength.c,
            ]
            assert tables.low[index, number].tolist() == pytest.approx(one.low)
            assert tables.high[index, number].tolist() == pytest.approx(one.high)
            assert tables.region[index, number] == one.region
            assert tables.first_position[index, number] == one.first_position
            assert tables.last_position[index, number] == one.last_position
            assert tables.at_most[index, number] == one.at_most
            used = tables.target_states[index, number] != NEVER
            assert tables.target_tokens[index, number][used].tolist() == one.target.tokens
            assert tables.target_states[index, number][used].tolist() == one.target.states
            used = tables.mass_states[index, number] != NEVER
            assert tables.mass_tokens[index, number][used].tolist() == one.mass.tokens


def test_padding_can_never_fire() -> None:
    tables = build_rules(PROGRAMS, CPU)
    for index, program in enumerate(PROGRAMS):
        assert not tables.at_most[index, len(program.rules) :].any()
        assert (tables.target_states[index, len(program.rules) :] == NEVER).all()


def test_sets_are_padded_to_whole_chunks() -> None:
    """So that a set's sum is taken in the same order, regardless of the largest set in the batch."""
    assert {len(rule.target.tokens) for rule in MANY.rules} >= {SET_CHUNK + 1}
    tables = build_rules(PROGRAMS, CPU)
    assert tables.target_tokens.shape[2] % SET_CHUNK == tables.mass_tokens.shape[2] % SET_CHUNK == 0
    assert build_rules([NOTHING], CPU).target_tokens.shape == (1, 0, 0)


def test_rows_get_the_rules_of_their_program() -> None:
    tables = build_rules(PROGRAMS, CPU)
    rows = tables.rows(torch.tensor([2, 0, 2, 1]))
    for name in ("region", "strength", "low", "target_tokens", "mass_states"):
        assert torch.equal(getattr(rows, name)[0], getattr(tables, name)[2]), name
        assert torch.equal(getattr(rows, name)[1], getattr(tables, name)[0]), name
        assert torch.equal(getattr(rows, name)[2], getattr(tables, name)[2]), name


@given(
    streams=st.lists(
        st.tuples(
            st.integers(0, len(PROGRAMS) - 1),
            st.lists(st.integers(0, SIZE - 1) | st.integers(256, SIZE - 1), max_size=12),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=300)
def test_the_device_follows_words_as_the_host_does(streams: list[tuple[int, list[int]]]) -> None:
    moves = build_moves(PROGRAMS, SIZE, CPU)
    assert moves is not None
    state = torch.full((len(streams),), FREE)
    for time in range(max(len(stream) for _, stream in streams)):
        rows = [row for row, (_, stream) in enumerate(streams) if time < len(stream)]
        program = torch.tensor([streams[row][0] for row in rows])
        state[rows] = moves.follow(program, state[rows], torch.tensor([streams[row][1][time] for row in rows]))
    for row, (number, stream) in enumerate(streams):
        if PROGRAMS[number].word_free:
            assert state[row] == PROGRAMS[number].follow(stream)[0], (number, stream)


def test_a_program_alone_follows_as_among_others() -> None:
    stream = tokens("so| |Wa|i|x|dou|ble-ch|e|等|let|'")
    for number, program in enumerate(PROGRAMS):
        together, alone = build_moves(PROGRAMS, SIZE, CPU), build_moves([program], SIZE, CPU)
        assert together is not None
        if alone is None:
            assert not program.word_free
            continue
        one, other = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        for token in stream:
            one = together.follow(torch.tensor([number]), one, torch.tensor([token]))
            other = alone.follow(torch.tensor([0]), other, torch.tensor([token]))
            assert one == other


def test_without_words_there_is_nothing_to_follow() -> None:
    assert build_moves([NOTHING, NUMBERS], SIZE, CPU) is None


def test_more_logits_than_the_tokenizer_has_tokens() -> None:
    """Models are often padded; after a token beyond the vocabulary a word may start."""
    moves = build_moves([WAIT], SIZE + 1000, CPU)
    assert moves is not None
    after = moves.follow(
        torch.tensor([0, 0]), torch.tensor([INSIDE, INSIDE]), torch.tensor([SIZE + 900, tokens("x")[0]])
    )
    assert after.tolist() == [FREE, INSIDE]


def test_membership_of_tokens_by_state() -> None:
    states = torch.tensor([[ANY_STATE, FREE, 5, NEVER], [ANY_STATE, FREE, 5, NEVER], [ANY_STATE, FREE, 5, NEVER]])
    assert belongs(states, torch.tensor([FREE, INSIDE, 5])).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True, False, True, False],
    ]


@pytest.mark.parametrize("chosen", [[2, 4], [4, 2, 1], [0, 3], [1]])
def test_joined_tables_are_those_of_the_programs_side_by_side(chosen: list[int]) -> None:
    """Each program is prepared once; a new set of programs moves its keys and pads its rules, and no more."""
    programs = [PROGRAMS[index] for index in chosen]
    parts = [build_program_tables(program, SIZE, CPU) for program in programs]
    joined = join_tables(programs, parts, SIZE)
    for number, part in enumerate(parts):
        for name in ("strength", "low", "target_tokens", "mass_states"):
            own, whole = getattr(part.rules, name)[0], getattr(joined.rules, name)[number]
            assert torch.equal(whole[tuple(slice(size) for size in own.shape)], own), name
    assert (joined.moves is None) == (not any(program.word_free for program in programs))
    for keys in (one.keys for one in (joined.moves, joined.marks) if one is not None):
        assert torch.equal(keys, keys.sort().values), "look-ups are binary searches"
