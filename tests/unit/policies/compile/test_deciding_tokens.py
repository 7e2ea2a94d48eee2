"""Which tokens a bias on a word of several tokens acts on: compared with the tokenizer's spellings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.deciding_tokens import biased_tokens
from forkpoint_policies.compile.regions import Marker, Region, build_regions
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE, NamedWord, build_automaton
from forkpoint_policies.kernel.record_flags import FORCED
from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies.factories import Request, Run
from tests.unit.policies.vocabularies import VOCABULARY, byte_vocabulary


def longest_first(vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    """A tokenizer that always takes the longest token that fits."""
    order = sorted(
        (one for one in range(vocabulary.size) if one not in vocabulary.specials and vocabulary.tokens[one]),
        key=lambda one: -len(vocabulary.tokens[one]),
    )

    def encode(text: str) -> list[int]:
        left, found = text.encode(), list[int]()
        while left:
            found.append(next(one for one in order if left.startswith(vocabulary.tokens[one])))
            left = left[len(vocabulary.tokens[found[-1]]) :]
        return found

    return encode


def acts_on(word: str, vocabulary: Vocabulary, text: str) -> list[bytes]:
    """The tokens of a text, as the tokenizer writes it, on which a bias on the word acts."""
    encode = longest_first(vocabulary)
    automaton = build_automaton([word], vocabulary)
    entries = set(biased_tokens(NamedWord(word), automaton, vocabulary, encode).entries)
    state, found = FREE, []
    for token in encode(text):
        if (state, token) in entries or (ANY_STATE, token) in entries:
            found.append(vocabulary.tokens[token])
        default = FREE if vocabulary.index.ends_word_free[token] else INSIDE
        state = automaton.moves.get((state, token), automaton.tails.get(token, default))
    return found


LARGE = byte_vocabulary(
    "Altern", "Alternate", "atively", " Alternatively", " alternatively", "never", " never", "theless",
    "double", " double", "-check", "in", " in", " conclusion",
    # after a space, "street" begins with " str" as "strategy" does, and "green" with " gr" as "grammar"
    " str", "ategy", "street", "strange", "strict", "strong", "strip", " gr", "ammar", "green", "grand",
)  # fmt: skip


@pytest.mark.parametrize(
    ("word", "text", "tokens"),
    [
        ("alternatively", "Alternatively, so", [b"Altern"]),
        ("alternatively", "so Alternatively", [b" Alternatively"]),
        ("alternatively", "Alternate", []),
        ("nevertheless", "so nevertheless, nevertheless", [b" never", b" never"]),
        ("double-check", "double-check", [b"-check"]),
        ("double-check", "so double-check it", [b"-check"]),
        ("in conclusion", "so in conclusion", [b" conclusion"]),
        ("grammar", "so grammar", [b" gr"]),
        ("strategy", "so strategy", [b"ategy"]),
        ("never", "never so never", [b"never", b" never"]),
    ],
)
def test_a_bias_acts_once_and_where_the_word_is_decided(word: str, text: str, tokens: list[bytes]) -> None:
    assert acts_on(word, LARGE, text) == tokens


@pytest.mark.parametrize("word", ["wait", "so", "in", "but"])
def test_words_of_one_token_are_unchanged(word: str) -> None:
    automaton = build_automaton([word], VOCABULARY)
    biased = biased_tokens(NamedWord(word), automaton, VOCABULARY, longest_first(VOCABULARY))
    assert biased.entries == automaton.completions[word]
    assert biased.beginnings == ()


def test_without_a_tokenizer_a_bias_acts_on_the_last_token() -> None:
    automaton = build_automaton(["however"], VOCABULARY)
    assert biased_tokens(NamedWord("however"), automaton, VOCABULARY, None).entries == automaton.completions["however"]


def spelled_target(*pieces: str) -> ServedModel:
    """A model that ends its reasoning with these tokens, one after the other."""
    vocabulary = byte_vocabulary(*pieces, "Wait", " so", ".\n")
    end = tuple(vocabulary.tokens.index(piece.encode(), 256) for piece in pieces)
    regions = build_regions([Marker(Region.REASONING, "".join(pieces), Region.ANSWER)], vocabulary, reasoning_end=end)
    return ServedModel(vocabulary, fork_threshold=0.672, regions=regions, stop=1, encode=longest_first(vocabulary))


@pytest.mark.parametrize(
    ("pieces", "acts_on"),
    [
        (("</", "think", ">"), 0),
        (("<|", "end", "|>"), 0),
        (("<", "/think", ">"), 1),  # "3 < 4" begins with "<" too
        (("Here", " is my", " response", ":"), 3),
    ],
)
def test_an_end_of_several_tokens_is_replaced_where_it_is_decided(pieces: tuple[str, ...], acts_on: int) -> None:
    target = spelled_target(*pieces)
    data = {"rules": [{"do": {"force": {"text": "Wait", "instead_of": "end_of_reasoning"}}}]}
    program = compile_policy(parse_policy(data), target).program
    run = Run(Request(program, temperature=0.0), vocabulary=target.vocabulary.size)
    stream, found = [target.vocabulary.tokens.index(b".\n"), *target.regions.reasoning_end], []
    for position, token in enumerate(stream):
        logits = torch.zeros(1, target.vocabulary.size)
        logits[0, token] = 9.0
        record = run.step(logits, [stream[:position]])
        found.append(bool(int(record.flags[0]) & FORCED))
        assert not found[-1] or int(logits[0].argmax()) == target.vocabulary.tokens.index(b"Wait")
    assert found == [False, *(number == acts_on for number in range(len(pieces)))]


def test_signals_of_an_end_of_several_tokens_are_those_of_its_first() -> None:
    data = {"rules": [{"when": {"end_of_reasoning_rank_below": 2}, "do": {"end_reasoning": {}}}]}
    target = spelled_target("</", "think", ">")
    (rule,) = compile_policy(parse_policy(data), target).program.rules
    assert rule.text == list(target.regions.reasoning_end)
    assert compile_policy(parse_policy(data), target).program.reasoning_end == target.regions.reasoning_end[0]
    with pytest.raises(InputError, match="other texts begin with the first, 'Here'") as caught:
        compile_policy(parse_policy(data), spelled_target("Here", " is my", " response", ":"))
    assert caught.value.field == "policy.rules[0].when.end_of_reasoning_rank_below"
