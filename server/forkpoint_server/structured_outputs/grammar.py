"""A grammar as xgrammar prints it: each rule is a choice of sequences. Read, and written back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from forkpoint_policies.compile.vocabulary import is_word_character

ROOT = "root"
UNBOUNDED = -1
MAX_CLASS = 64
"""Characters that a class is read as; a larger one is only known by whether it holds characters of words."""


class UnreadableGrammarError(ValueError):
    """The grammar uses a construct that is not read here."""


@dataclass(frozen=True)
class Literal:
    """A fixed text."""

    text: str


@dataclass(frozen=True)
class CharacterClass:
    """One character of a class, repeated `low` to `high` times. `characters` is None where they are too many."""

    source: str
    characters: tuple[str, ...] | None
    has_word_character: bool
    low: int = 1
    high: int = 1


@dataclass(frozen=True)
class Reference:
    """What a rule derives, repeated `low` to `high` times."""

    rule: str
    low: int = 1
    high: int = 1


@dataclass(frozen=True)
class Group:
    """One of some fixed texts."""

    texts: tuple[str, ...]


Element = Literal | CharacterClass | Reference | Group
Sequence = tuple[Element, ...]


@dataclass(frozen=True)
class Rule:
    """A choice of sequences, and the lookahead after it. `opaque` is the body of a rule that is not read."""

    sequences: tuple[Sequence, ...]
    lookahead: str = ""
    opaque: str | None = None


Grammar = dict[str, Rule]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<set>\[(?:[^\]\\]|\\.)*\])(?P<quantifier>[*+?]?)(?:\{(?P<set_low>\d+),\s*(?P<set_high>-?\d+)\})?
  | (?P<name>[A-Za-z_][\w.-]*)(?:\{(?P<low>\d+),\s*(?P<high>-?\d+)\})?(?![\w(])
  | (?P<sign>[()|])
)""",
    re.VERBOSE,
)
_OPAQUE = re.compile(r"[A-Z]\w*\(")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_QUANTIFIERS = {"": (1, 1), "*": (0, UNBOUNDED), "+": (1, UNBOUNDED), "?": (0, 1)}


def parse_grammar(text: str) -> Grammar:
    """Read a grammar that xgrammar printed. Raises UnreadableGrammarError."""
    grammar: Grammar = {}
    for line in text.splitlines():
        if line.strip():
            name, sign, body = line.partition(" ::= ")
            if not sign:
                raise UnreadableGrammarError(line)
            grammar[name] = _parse_rule(body)
    if ROOT not in grammar:
        raise UnreadableGrammarError(f"no rule {ROOT}")
    return grammar


def format_grammar(grammar: Grammar) -> str:
    """The grammar as text that xgrammar reads."""
    return "".join(f"{name} ::= {_format_rule(rule)}\n" for name, rule in grammar.items())


def _parse_rule(body: str) -> Rule:
    if _OPAQUE.match(body):
        return Rule((), opaque=body)
    sequences: list[Sequence] = []
    position = _expect(body, 0, "(")
    while True:
        sequence, position = _parse_sequence(body, position)
        sequences.append(sequence)
        found = _next(body, position)
        position = found.end()
        if found["sign"] == ")":
            break
        if found["sign"] != "|":
            raise UnreadableGrammarError(body)
    lookahead = body[position:].strip()
    if lookahead and not lookahead.startswith("(="):
        raise UnreadableGrammarError(body)
    return Rule(tuple(sequences), lookahead)


def _parse_sequence(body: str, position: int) -> tuple[Sequence, int]:
    found = _next(body, position)
    if found["string"] == '""':
        return (), found.end()
    position = _expect(body, position, "(")
    elements: list[Element] = []
    while (found := _next(body, position))["sign"] != ")":
        elements.append(_element(found))
        position = found.end()
    return tuple(elements), found.end()


def _element(found: re.Match[str]) -> Element:
    if found["string"] is not None:
        return Literal(unescape(found["string"][1:-1]))
    if found["set"] is not None:
        low, high = _QUANTIFIERS[found["quantifier"]]
        if found["set_low"] is not None:
            low, high = int(found["set_low"]), int(found["set_high"])
        characters, has_word_character = _read_class(found["set"][1:-1])
        return CharacterClass(found["set"], characters, has_word_character, low, high)
    if found["name"] is not None:
        if found["low"] is None:
            return Reference(found["name"])
        return Reference(found["name"], int(found["low"]), int(found["high"]))
    raise UnreadableGrammarError(found.string)


def _read_class(inner: str) -> tuple[tuple[str, ...] | None, bool]:
    """The characters of a class, None if they are too many, and whether some are characters of words."""
    if inner.startswith("^"):
        return None, True
    ranges: list[tuple[int, int]] = []
    position = 0
    characters = list(_characters(inner))
    while position < len(characters):
        first = last = ord(characters[position][0])
        if position + 2 < len(characters) and characters[position + 1] == ("-", False):
            last, position = ord(characters[position + 2][0]), position + 2
        ranges.append((first, last))
        position += 1
    if sum(last - first + 1 for first, last in ranges) > MAX_CLASS:
        return None, True
    found = tuple(dict.fromkeys(chr(code) for first, last in ranges for code in range(first, last + 1)))
    return found, any(map(is_word_character, found))


def _characters(text: str) -> Iterator[tuple[str, bool]]:
    """The characters that a text with escapes stands for, and whether each was escaped."""
    position = 0
    while position < len(text):
        found = _ESCAPE.match(text, position)
        if found is None:
            yield text[position], False
            position += 1
        else:
            code = found[1] or found[2] or found[3]
            yield (chr(int(code, 16)) if code else _ESCAPED.get(found[4], found[4])), True
            position = found.end()


def unescape(text: str) -> str:
    """What the inside of a quoted text stands for."""
    return "".join(character for character, _ in _characters(text))


def _next(body: str, position: int) -> re.Match[str]:
    found = _TOKEN.match(body, position)
    if found is None:
        raise UnreadableGrammarError(body)
    return found


def _expect(body: str, position: int, sign: str) -> int:
    found = _next(body, position)
    if found["sign"] != sign:
        raise UnreadableGrammarError(body)
    return found.end()


def _format_rule(rule: Rule) -> str:
    if rule.opaque is not None:
        return rule.opaque
    body = " | ".join(_format_sequence(sequence) for sequence in rule.sequences)
    return f"({body}) {rule.lookahead}".rstrip()


def _format_sequence(sequence: Sequence) -> str:
    return "(" + " ".join(map(_format_element, sequence)) + ")" if sequence else '""'


def _format_element(element: Element) -> str:
    if isinstance(element, Literal):
        return _quoted(element.text)
    if isinstance(element, Group):
        return "(" + " | ".join(map(_quoted, element.texts)) + ")"
    source = element.rule if isinstance(element, Reference) else element.source
    for quantifier, bounds in _QUANTIFIERS.items():
        if (element.low, element.high) == bounds and isinstance(element, CharacterClass):
            return source + quantifier
    return source if (element.low, element.high) == (1, 1) else f"{source}{{{element.low}, {element.high}}}"


def _quoted(text: str) -> str:
    escaped = "".join(
        character if " " <= character <= "~" and character not in '"\\' else f"\\U{ord(character):08x}"
        for character in text
    )
    return f'"{escaped}"'
