"""Grammars without banned words: which texts they still allow, as xgrammar decides it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

from forkpoint_server.structured_outputs.banned_words import BannedWords
from forkpoint_server.structured_outputs.grammar import format_grammar, parse_grammar
from forkpoint_server.structured_outputs.json_patterns import write_out_patterns
from forkpoint_server.structured_outputs.prune import NothingLeftError, without_banned_words

WAIT = BannedWords(("wait",))


def pruned(grammar: xgrammar.Grammar) -> xgrammar.Grammar:
    read = write_out_patterns(parse_grammar(str(grammar)))
    return xgrammar.Grammar.from_ebnf(format_grammar(without_banned_words(read, WAIT)))


def schema(schema: dict[str, Any]) -> xgrammar.Grammar:
    return xgrammar.Grammar.from_json_schema(json.dumps(schema))


def an_object(**properties: dict[str, Any]) -> xgrammar.Grammar:
    fields = {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}
    return schema(fields)


REGEX, EBNF = xgrammar.Grammar.from_regex, xgrammar.Grammar.from_ebnf
CASES: dict[str, tuple[xgrammar.Grammar, list[str], list[str]]] = {
    "choice": (
        EBNF('root ::= "Wait" | "Then" | "Wait here" | "Waiting" | "I wait now"'),
        ["Then", "Waiting"],
        ["Wait", "Wait here", "I wait now"],
    ),
    "begun in one rule, finished in another": (
        EBNF('root ::= "W" tail | "Then"\ntail ::= "ait" | "ater"'),
        ["Water", "Then"],
        ["Wait"],
    ),
    "a list of items": (
        EBNF('root ::= item ("," item)*\nitem ::= "wait" | "then"'),
        ["then", "then,then"],
        ["wait", "then,wait"],
    ),
    "an enum": (
        an_object(a={"enum": ["Wait", "Then", "wait here"]}),
        ['{"a":"Then"}', '{ "a" : "Then" }'],
        ['{"a":"Wait"}', '{"a":"wait here"}'],
    ),
    "a const in an array": (
        schema({"type": "array", "items": {"anyOf": [{"const": "wait"}, {"const": 3}]}, "minItems": 1}),
        ["[3]", "[3, 3]"],
        ['["wait"]', '[3, "wait"]'],
    ),
    "a pattern": (
        an_object(a={"type": "string", "pattern": "^(Wait|Then)$"}),
        ['{"a":"Then"}'],
        ['{"a":"Wait"}'],
    ),
    "the name of an optional property": (
        an_object(a={"type": "integer"}, wait={"type": "integer"}),
        ['{"a":1}'],
        ['{"a":1,"wait":2}'],
    ),
    "an alternation": (REGEX("(Wait|Then) [0-9]+"), ["Then 31"], ["Wait 31"]),
    "classes of characters": (REGEX("[Ww]ait|[Tt]hen|[Ww]ater"), ["Then", "water"], ["Wait", "wait"]),
    "repetitions": (REGEX("(wait, |then, )+end"), ["then, then, end"], ["wait, end", "then, wait, end"]),
    "a few repetitions": (REGEX("(?:Then|wa(it|ter)){1,3}"), ["ThenThen", "waterwait"], ["wait"]),
    "optional neighbours": (REGEX("x*(wait|then)( y)*"), ["then y", "xxwait"], []),
    "letters that may follow": (REGEX("(Wait|Then)[a-z]*"), ["Then", "Waiting"], []),
}


@pytest.mark.parametrize(("grammar", "left", "dropped"), CASES.values(), ids=CASES)
def test_texts_with_a_banned_word_are_dropped(grammar: xgrammar.Grammar, left: list[str], dropped: list[str]) -> None:
    assert all(_is_grammar_accept_string(grammar, text) for text in (*left, *dropped)), "the case is wrong"
    remaining = pruned(grammar)
    assert [text for text in (*left, *dropped) if _is_grammar_accept_string(remaining, text)] == left


@pytest.mark.parametrize(
    "grammar", [schema({"type": "object", "properties": {"a": {"type": "string"}}}), REGEX(".*"), REGEX("Then|So")]
)
def test_a_grammar_without_a_banned_word_is_left_as_it_is(grammar: xgrammar.Grammar) -> None:
    read = parse_grammar(str(grammar))
    assert without_banned_words(read, WAIT) is read


@pytest.mark.parametrize(
    "grammar",
    [EBNF('root ::= "Wait" | "wait!"'), an_object(a={"const": "wait"}), REGEX("[0-9]+ wait( [0-9])*")],
)
def test_a_grammar_of_which_nothing_remains(grammar: xgrammar.Grammar) -> None:
    with pytest.raises(NothingLeftError):
        pruned(grammar)
