"""Grammars as xgrammar prints them: read, and written back so that xgrammar reads the same."""

from __future__ import annotations

import pytest
import xgrammar

from forkpoint_server.structured_outputs.grammar import (
    CharacterClass,
    Literal,
    Reference,
    UnreadableGrammarError,
    format_grammar,
    parse_grammar,
)

OBJECT = """{"type": "object", "additionalProperties": false, "required": ["a"], "properties": {
    "a": {"enum": ["Thén", "say \\"hi\\"\\n"]}, "b": {"type": "string", "minLength": 2, "maxLength": 20},
    "c": {"type": "number"}, "d": {"type": "string", "pattern": "^[a-z]+$"}}}"""

GRAMMARS = {
    "schema": xgrammar.Grammar.from_json_schema(OBJECT),
    "any object": xgrammar.Grammar.from_json_schema('{"type": "object"}'),
    "regex": xgrammar.Grammar.from_regex(r"[Ww]ait|(?:Then|wa(it|ter)){1,3}\d*[^a-c\"\]]?"),
    "ebnf": xgrammar.Grammar.from_ebnf('root ::= "a\\"b\\\\c\\u00e9" | [\\]\\-a\\^] | [a-c]{3,5} x*\nx ::= "" | "y" x'),
    "lark": xgrammar.Grammar.from_lark('start: "Wait" | "Then" /[a-z]+/'),
}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_what_is_written_back_is_the_same_grammar(grammar: xgrammar.Grammar) -> None:
    written = format_grammar(parse_grammar(str(grammar)))
    assert str(xgrammar.Grammar.from_ebnf(written)) == str(grammar)


def test_the_elements_of_a_sequence() -> None:
    text = 'root ::= (("\\"\\u00e9" [a-c\\-]* x{1, -1} [^a] [\\U0001f600]) | "")\nx ::= (("y"))\n'
    root = parse_grammar(text)["root"]
    assert root.sequences == (
        (
            Literal('"é'),
            CharacterClass("[a-c\\-]", ("a", "b", "c", "-"), True, 0, -1),
            Reference("x", 1, -1),
            CharacterClass("[^a]", None, True),
            CharacterClass("[\\U0001f600]", ("\U0001f600",), False),
        ),
        (),
    )


@pytest.mark.parametrize("text", ["", "x ::= ((y))", 'root ::= "a" | "b"', "root ::= ((%))", "nonsense"])
def test_what_xgrammar_does_not_print_is_not_read(text: str) -> None:
    with pytest.raises(UnreadableGrammarError):
        parse_grammar(text)
