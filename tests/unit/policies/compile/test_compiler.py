"""Policies compiled for a vocabulary: tokens, numbers, warnings, and what cannot be expressed."""

from __future__ import annotations

import gc
import json
import math
import random
import string
import tracemalloc
from dataclasses import replace
from itertools import product

import pytest

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import UNLIMITED, Action, Program, RegionCode, Signal
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_policies.spec.connectors import FAMILIES
from tests.unit.policies.factories import FULL, Json, compiled, policy, rule, warnings
from tests.unit.policies.vocabularies import TARGET, UNMARKED, VOCABULARY, token, tokens

ASCII = ServedModel(Vocabulary(tuple(bytes([value]) for value in range(128))), fork_threshold=0.5)


def texts(program: Program, number: int, state: int) -> set[bytes]:
    """The texts of those tokens in a rule's target that count in exactly this state."""
    target = program.rules[number].target
    return {VOCABULARY.tokens[one] for one, wanted in zip(target.tokens, target.states, strict=True) if wanted == state}


def test_rules_are_in_the_order_in_which_they_are_applied() -> None:
    """By action, and within an action in the policy's order."""
    program = compiled(FULL)
    assert [one.action for one in program.rules] == [
        Action.OBSERVE,
        Action.MASK,
        Action.BIAS,
        Action.BIAS,
        Action.TEMPERATURE,
    ]
    assert [one.number for one in program.rules] == [2, 3, 1, 4, 0]
    assert [one.strength.a for one in program.rules] == [0.0, 0.0, 2.0, -3.0, 1.25]


def test_conditions_as_numbers() -> None:
    by_number = {one.number: one for one in compiled(FULL).rules}
    assert (by_number[0].low[Signal.ENTROPY], by_number[0].region, by_number[0].at_most) == (
        0.672,
        RegionCode.REASONING,
        3,
    )
    assert by_number[1].low[Signal.MASS] == 0.25
    assert {VOCABULARY.tokens[one] for one in by_number[1].mass.tokens} >= {b"so", b" so", b"So"}
    assert (by_number[2].first_position, by_number[2].last_position) == (4, 8)
    assert (by_number[2].high[Signal.VARENTROPY], by_number[2].low[Signal.TOP_PROBABILITY]) == (2.0, 0.5)
    assert (by_number[4].high[Signal.ENTROPY], by_number[4].region) == (1.5, RegionCode.ANSWER)
    open_ended = by_number[3]
    assert (open_ended.low, open_ended.high) == ([-math.inf] * len(Signal), [math.inf] * len(Signal))
    assert (open_ended.region, open_ended.at_most, open_ended.first_position) == (RegionCode.ANY, UNLIMITED, 0)
    assert open_ended.last_position == UNLIMITED


def test_the_tokens_of_a_word() -> None:
    program = compiled(policy(rule(suppress={"words": ["so"]})))
    anywhere = {b" so", b", so", b", so,", b" so so"}
    assert texts(program, 0, ANY_STATE) == anywhere
    assert texts(program, 0, FREE) == {b"so", b"So"}
    after_s, _ = program.follow(tokens("s"))
    assert texts(program, 0, after_s) == {b"o", b"O"}
    assert texts(program, 0, INSIDE) == set()


def test_the_tokens_of_a_family_are_those_of_its_words() -> None:
    by_family = compiled(policy(rule(suppress={"connectors": ["uncertainty"]})))
    by_words = compiled(policy(rule(suppress={"words": list(FAMILIES["uncertainty"])})))
    assert by_family.rules[0].target == by_words.rules[0].target
    assert by_family.rules[0].target.tokens


def test_a_token_is_listed_once() -> None:
    """A token named by id counts in every state; its states as a piece of a word are merged into that."""
    named: Json = {"words": ["so"], "connectors": ["conclusion"], "token_ids": [token("so"), token(" so"), token("so")]}
    target = compiled(policy(rule(suppress=named))).rules[0].target
    pairs = list(zip(target.tokens, target.states, strict=True))
    assert len(pairs) == len(set(pairs))
    assert [state for one, state in pairs if one == token("so")] == [ANY_STATE]


@pytest.mark.parametrize("action", [{"amplify": 2.0}, {"suppress": -2.0}])
def test_a_bias_on_a_word_of_several_tokens_acts_where_the_word_is_decided(action: dict[str, float]) -> None:
    """At its last piece it would have no effect. A warning reports it."""
    ((name, bias),) = action.items()
    written = policy(rule(**{name: {"words": ["however", "wait"], "bias": bias}}))
    program = compiled(written)
    assert texts(program, 0, FREE) >= {b"h", b"H", b"wait", b"Wait"}
    assert b"w" not in texts(program, 0, FREE), "the pieces of a word that is one token are unchanged"
    almost, _ = program.follow(tokens("h|ow|e|v|e"))
    assert texts(program, 0, almost) == {b"R"}, "once per word: the spelling that the tokenizer writes is over by then"
    assert warnings(written) == (
        (
            f"policy.rules[0].do.{name}: 'however' is several tokens for this model in some spellings; there the bias "
            "acts on the token that decides it: 'h', 'H'"
        ),
    )


def test_a_ban_acts_on_the_last_token_only() -> None:
    banned = policy(rule(suppress={"words": ["however"]}))
    program = compiled(banned)
    assert b"h" not in texts(program, 0, FREE)
    almost, _ = program.follow(tokens("h|ow|e|v|e"))
    assert texts(program, 0, almost) == {b"r", b"R"}
    assert warnings(banned) == ()


def test_a_rule_that_raises_a_banned_word_of_several_tokens_is_rejected() -> None:
    """Though the two act on different tokens."""
    both = policy(rule(suppress={"words": ["however"]}), rule(amplify={"words": ["however"], "bias": 1.0}))
    with pytest.raises(InputError, match="contradicts rules\\[0\\]"):
        compile_policy(parse_policy(both), TARGET)


def test_a_probe_without_a_text_that_prompts_for_the_result_warns() -> None:
    probe = {"tokens": 20, "probability_above": 0.95}
    (warning,) = warnings(policy(rule(probe=probe)))
    assert warning.startswith("policy.rules[0].do.probe.text is empty")
    assert warnings(policy(rule(probe={**probe, "text": "so"}))) == ()
    assert warnings(policy(rule(probe={"tokens": 1, "variance_below": 0.1}))) == (), (
        "an entropy is taken, no answer read"
    )


def test_regions_without_markers_are_warned_of() -> None:
    written = policy(rule({"region": "answer"}, observe={}), rule({"region": "reasoning"}, observe={}))
    assert len(warnings(written, UNMARKED)) == 1
    assert "--reasoning-parser" in warnings(written, UNMARKED)[0]
    assert warnings(written) == ()
    assert warnings(policy(rule({"region": "any"}, observe={})), UNMARKED) == ()


CANNOT: list[tuple[Json, str, str]] = [
    (
        policy(rule(suppress={"token_ids": [1, 128]})),
        "policy.rules[0].do.suppress.token_ids[1]",
        "ids run from 0 to 127",
    ),
    (
        policy(rule(observe={}), rule(amplify={"token_ids": [900], "bias": 1})),
        "policy.rules[1].do.amplify.token_ids[0]",
        "0 to 127",
    ),
    (
        policy(rule(suppress={"words": ["ok", "等等"]})),
        "policy.rules[0].do.suppress.words[1]",
        "cannot write the word '等等'",
    ),
    (
        policy(rule(suppress={"words": ["a"]}), rule(amplify={"words": ["b", "c", "é"], "bias": 1.0})),
        "policy.rules[1].do.amplify.words[2]",
        "cannot write the word 'é'",
    ),
]


@pytest.mark.parametrize(("written", "field", "right"), CANNOT)
def test_what_the_vocabulary_cannot_express_names_the_field(written: Json, field: str, right: str) -> None:
    with pytest.raises(InputError, match=right) as caught:
        compile_policy(parse_policy(written), ASCII)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("written", "field"),
    [
        (
            policy(rule(suppress={"connectors": ["conclusion", "uncertainty"]})),
            "arm.rules[0].do.suppress.connectors[1]",
        ),
        (
            policy(rule({"connectors": ["uncertainty"], "connector_probability_above": 0.1}, observe={})),
            "arm.rules[0].when.connectors[0]",
        ),
    ],
)
def test_a_family_that_the_vocabulary_cannot_express(written: Json, field: str) -> None:
    """No b, as in "maybe"."""
    without_b = ServedModel(
        Vocabulary(tuple(one.encode() for one in string.printable if one not in "bB")), fork_threshold=0.5
    )
    with pytest.raises(InputError, match="cannot write the word 'maybe'") as caught:
        compile_policy(parse_policy(written), without_b, "arm")
    assert caught.value.field == field


WORDS = ["".join(letters) for letters in product("abcdefghi", repeat=3)]


@pytest.mark.parametrize(
    ("written", "field"),
    [
        (policy(*(rule(suppress={"words": WORDS[start : start + 200]}) for start in (0, 200, 400))), "policy.rules"),
        (policy(rule(suppress={"words": [word * 20 for word in WORDS[:256]]})), "policy.rules[0].do.suppress.words"),
        (
            policy(
                *(rule(suppress={"words": [word * 18 for word in WORDS[start : start + 100]]}) for start in (0, 100))
            ),
            "policy.rules",
        ),
    ],
)
def test_too_many_words(written: Json, field: str) -> None:
    with pytest.raises(InputError, match=r"\d+ at most") as caught:
        compile_policy(parse_policy(written), TARGET)
    assert caught.value.field == field


def test_many_words_are_compiled_quickly() -> None:
    program = compiled(
        policy(*(rule(suppress={"words": [word * 3 for word in WORDS[start : start + 256]]}) for start in (0, 256)))
    )
    assert len(program.rules) == 2
    assert program.follow(tokens("a|b|c|a|b"))[0] > INSIDE


def random_ids(seed: int, number: int) -> Json:
    chosen = random.Random(seed)
    ids = [[chosen.randrange(VOCABULARY.size) for _ in range(number)] for _ in range(16)]
    return {"rules": [{"do": {"suppress": {"token_ids": one, "bias": -1.0}}} for one in ids]}


def random_words(seed: int) -> Json:
    chosen = random.Random(seed)
    words = ["".join(chosen.choices(string.ascii_lowercase, k=8)) for _ in range(250)]
    return {"rules": [{"do": {"suppress": {"words": words, "bias": -1.0 - seed}}} for seed in range(4)]}


@pytest.mark.parametrize("data", [random_ids(1, 4096), random_ids(2, 16), random_words(3), {"rules": []}])
def test_a_compiled_policy_is_counted_as_what_it_takes(data: Json) -> None:
    """Its policy may take more than its program: a list of token ids may name one many times."""
    written = json.dumps(data)
    compile_policy(parse_policy(data), TARGET)  # what is cached at the first time
    gc.collect()
    tracemalloc.start()
    compiled = compile_policy(parse_policy(json.loads(written)), TARGET)
    _ = compiled.packed
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 * taken < compiled.num_bytes < 4 * taken + 10_000


def test_positions_in_lengths_of_the_models_reasoning() -> None:
    lengths = {"reasoning_lengths": 1.5}
    data = policy(
        rule({"after_token": 3, "before_token": lengths}, observe={}),
        rule({"probability": {"shape": "linear", "start": 1.0, "end": 0.0, "over": lengths}}, observe={}),
    )
    calibrated = replace(TARGET, mean_reasoning_tokens=416.2)
    first, second = compiled(data, calibrated).rules
    assert (first.first_position, first.last_position, second.probability.c) == (3, 623, 624.0)
    assert warnings(data, calibrated) == ()
    assert compiled(data).rules[0].last_position == 1499
    assert "not calibrated; 1000 tokens is used" in warnings(data)[0]
    empty = policy(rule({"after_token": 700, "before_token": lengths}, observe={}))
    compiled(empty)
    with pytest.raises(InputError, match="no position is both after_token 700 and before_token 624 of this model"):
        compiled(empty, calibrated)


@pytest.mark.parametrize("kind", ["confidence", "mean_entropy"])
def test_a_window_that_is_never_full(kind: str) -> None:
    data = {f"{kind}_below": 1.0, f"{kind}_window": 101, "before_token": 100}
    with pytest.raises(InputError, match="is 101 tokens, which is never full before before_token 100") as caught:
        compiled(policy(rule(data, observe={})))
    assert caught.value.field == f"policy.rules[0].when.{kind}_window"
    compiled(policy(rule(data | {"before_token": 101}, observe={})))


def test_one_temperature_for_the_mean_entropy() -> None:
    one = rule({"mean_entropy_below": 1.0, "at_temperature": 0.6}, observe={})
    other = rule({"mean_entropy_below": 1.0}, observe={})
    with pytest.raises(InputError, match="a policy has one temperature for them") as caught:
        compiled(policy(one, other))
    assert caught.value.field == "policy.rules[1].when.at_temperature"
    with pytest.raises(InputError, match="in a policy that branches"):
        compiled(policy(one, rule({"entropy_above": 1.0}, branch={})))
    compiled(policy(other, rule({"entropy_above": 1.0, "at_temperature": 0.6}, branch={})))
