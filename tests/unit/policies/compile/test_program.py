"""Programs: sent from the server to the worker, and followed on the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import Program, key_of
from forkpoint_policies.compile.regions import Region, single_token_regions
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.spec import parse_policy
from tests.unit.policies.factories import FULL, Json, compiled, policy, rule
from tests.unit.policies.vocabularies import END, END_THINK, SIZE, TARGET, THINK, UNMARKED, VOCABULARY, tokens

# Programs travel from the server to the worker.


@pytest.mark.parametrize("written", [policy(), FULL, {**FULL, "shadow": True}, policy(rule(observe={}))])
def test_a_program_arrives_as_it_was_sent(written: Json) -> None:
    program = compiled(written)
    assert Program.unpack(program.pack()) == program


def test_the_key_of_a_program_depends_on_all_its_behaviour() -> None:
    again = compile_policy(parse_policy(FULL), TARGET).program
    assert key_of(again.pack()) == key_of(compiled(FULL).pack())
    others: list[tuple[Json, ServedModel]] = [
        ({**FULL, "shadow": True}, TARGET), ({**FULL, "rules": FULL["rules"][:4]}, TARGET), (FULL, UNMARKED),
        (FULL, ServedModel(VOCABULARY, 0.5, single_token_regions(THINK, END_THINK))),
    ]  # fmt: skip
    assert len({key_of(compiled(written, target).pack()) for written, target in [(FULL, TARGET), *others]}) == 1 + len(
        others
    )


def test_a_name_does_not_change_the_program() -> None:
    assert key_of(compiled({**FULL, "name": "other", "description": "x"}).pack()) == key_of(compiled(FULL).pack())


# Following the text on the host.


@given(stream=st.lists(st.integers(0, SIZE - 1), max_size=20), cut=st.integers(0, 20))
def test_following_can_resume_at_any_token(stream: list[int], cut: int) -> None:
    program = compiled(FULL)
    assert program.follow(stream[cut:], *program.follow(stream[:cut])) == program.follow(stream)


@pytest.mark.parametrize(
    ("stream", "reasoning"),
    [
        ([], True),
        ([END_THINK], False),
        ([END_THINK, END], False),
        ([END_THINK, THINK], True),
        ([THINK, END_THINK], False),
        ([END], True),
    ],
)
def test_following_the_reasoning(stream: list[int], reasoning: bool) -> None:
    assert compiled(FULL).follow(stream)[1] == reasoning
    assert compiled(policy()).follow(stream)[1] == reasoning, "also without words"
    assert compiled(FULL, UNMARKED).follow(stream)[1] == Region.REASONING


def test_following_without_words_leaves_the_state_unchanged() -> None:
    assert compiled(policy(rule(temperature=2.0))).follow(tokens("W|ait")) == (FREE, True)


@pytest.mark.parametrize("unknown", [SIZE + 8, -1, 2**31, 10**30, -(10**30)])
def test_a_token_that_the_vocabulary_lacks_changes_nothing(unknown: int) -> None:
    """A client's prompt may hold any number; vLLM rejects it after its policy was attached."""
    program = compiled(policy(rule(suppress={"words": ["wait"]})))
    assert program.follow([*tokens("W|a"), unknown]) == program.follow(tokens("W|a"))


def test_programs_that_are_gone_leave_no_walk_to_others() -> None:
    """A new object can have the id of one that is gone."""
    with_words, without = compiled(policy(rule(suppress={"words": ["so"]}))), compiled(policy())
    stream = tokens("so|but|so")
    expected = with_words.follow(stream), without.follow(stream)
    assert expected[0] != expected[1]
    for _ in range(50):
        found = [Program.unpack(program.pack()).follow(stream) for program in (with_words, without)]
        assert tuple(found) == expected
