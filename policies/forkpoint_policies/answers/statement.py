"""Which part of a text states its answer: what it says that its answer is, its last formula, or its last number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .mathematics import LEADING, is_formula
from .notation import MAX_CHARACTERS, without_markup
from .numbers import last_number

_READ = 4 * MAX_CHARACTERS
"""Characters of a text's end in which its answer is looked for."""

_CUE = re.compile(
    r"(?:\banswers?\b[^.\n:=]{0,60}?(?:\s(?:is|are|was|be|equals)\b\s*:?|:|=)"
    r"|(?:^|\n)[ \t]*\**answer\**[ \t]+(?=\S)|####)\**\s*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:[.!?][*$)\]\\]*\s+(?=[A-Z\\(\[*])|\n|[.!?][*$]*\s*$)")
_FORMULAS = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$|\\\[(?P<block>.{1,2000}?)\\\]"
    r"|(?<![\\$])\$(?! )(?P<inline>[^$\n]+)(?<! )\$(?!\d)|\\\((?P<bracket>.{1,2000}?)\\\)",
    re.DOTALL,
)
_CHOICE = re.compile(r"\(([A-J])\)|\(?([A-J])\)?(?=[.,:;)]|\s+[^a-z\s]|\s*$)")


def statement(text: str) -> str | None:
    """The formula, or the words, that a text states as its answer; None if it states nothing.

    Where the text says which its answer is, that is it; else its last formula, or all of it where it is one, or its
    last number, or its last line.
    """
    text = text[-_READ:]
    if is_formula(text) and "####" not in text:
        return text
    for cue in reversed(list(_CUE.finditer(text))):
        sentence = _sentence(text[cue.end() :].lstrip())
        if without_markup(sentence):
            return _of_sentence(sentence)
    formulas = _formulas(text)
    if formulas:
        return formulas[-1]
    found = last_number(text)
    return found or next((line for one in reversed(text.splitlines()) if (line := without_markup(one))), None)


def _sentence(text: str) -> str:
    """The first sentence of a text."""
    end = _SENTENCE_END.search(text)
    sentence = text[: end.start()] if end else text
    if sentence.strip("*$ \\[("):
        return sentence
    return next((line for line in text.splitlines() if line.strip("*$ \\[](")), "")


def _of_sentence(sentence: str) -> str:
    """What a sentence that states an answer says that it is."""
    sentence = LEADING.sub("", sentence.strip("* ")).strip()
    if is_formula(sentence):
        return sentence
    formulas = _formulas(sentence)
    if len(formulas) > 1 and all(re.fullmatch(r"\s*,?\s*(?:and|or)?\s*", gap) for gap in _between_formulas(sentence)):
        return ", ".join(formulas)
    if formulas:
        return formulas[0]
    choice = _CHOICE.match(sentence)
    if choice:
        return choice[1] or choice[2]
    return last_number(sentence) or sentence


def _formulas(text: str) -> list[str]:
    return [inner for found in _FORMULAS.finditer(text) if (inner := found[found.lastgroup or 0].strip())]


def _between_formulas(text: str) -> Iterator[str]:
    end = None
    for found in _FORMULAS.finditer(text):
        if end is not None:
            yield text[end : found.start()]
        end = found.end()
