"""A formula in one spelling: equal numbers, expressions, sets and intervals are equal strings.

What is a number, or a list, set or interval of numbers, is read here. All else goes to another process, where SymPy
computes with it for a limited time; what that cannot read is compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .notation import MAX_CHARACTERS, one_notation, without_markup
from .numbers import number
from .sympy_process import SYMPY
from .words import ENGLISH, FUNCTIONS, UNITS

MAX_DEPTH = 8

AT_A_POINT = "≡"
"""Starts the spelling of an expression that is given by its value at one point."""

LEADING = re.compile(
    r"^(?:\s*(?:therefore|thus|so|hence|approximately|about|roughly|simply|just|equal to|equals|is|are|be|:|=|,|→"
    r"|\\approx|\\to|\\therefore)(?![A-Za-z])\s*)+",
    re.IGNORECASE,
)
"""What may stand between the words "the answer" and the answer."""


_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_UNIT = re.compile(r"(?<=[\s\d%}.)/*^])(?P<unit>[A-Za-z]+|\\Omega)(?:\s?\^\s?\{?\s?-?\d\s?\}?)?\s*$")
_TEXT_UNIT = re.compile(
    r"(?<=[\d%}.)a-zA-Z\s])\\?[,;~ ]?\s*\\(?:text|mathrm|mbox|rm|textrm)\s*\{\\?[~,;]?\s*(?!\s*(?:and|or)\b)"
    r"(?!\s*[aApP]\.?\s?[mM]\b)[A-Za-z][^{}]*\}(?:\s?\^\s?\{?\s?-?\d\s?\}?)?[\s.$]*$"
)
_LETTER = r"(?:[A-Za-z]|\\[A-Za-z]+)"
_SYMBOL = rf"{_LETTER}(?:\s?_\s?(?:\{{\s?\w+\s?\}}|\w))?'*"
_NAME = re.compile(
    rf"\s*(?:\\(?:angle|measuredangle|overline|vec|triangle)\s*)?\{{?\s*(?:{_SYMBOL}|[A-Za-z]\w{{0,20}}\s?\([\w\s,]*\)|[A-Za-z]{{2,}}|\(\s*[a-z]\s*(?:,\s*[a-z]\s*)+\))\s*\}}?"
    r"\s*(?:=|\\approx(?![a-z])|\\in(?![a-z]))\s*"
)
_CONDITION = re.compile(r"[<>]|\\(?:[lg]e|ne)(?![a-z])")
_CHOICE = re.compile(r"\(?\s?([A-Z])\s?(?:\)|\.|:|\s-\s.*|\)\s.*)?", re.DOTALL)
_ARTICLE = re.compile(r"^(?:[Tt]he|an?)\s+(?=[A-Za-z]{2})")
_COUNTED = re.compile(r"(?P<count>[^A-Za-z\\]*\d[^A-Za-z\\]*?)\s+(?!am\b|pm\b)[a-z]{2,}(?:[\s-]+[a-z]{2,})*")
_TIME = re.compile(r"(?P<time>\d{1,2}(?::\d\d)+)\s*(?P<half>[aApP])\.?\s?[mM]\.?")
_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_MATHEMATICAL = re.compile(r"[\\^_=<>+*/|!\d-]")
_LIST_SEPARATOR = r"[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"


def is_formula(text: str) -> bool:
    """Whether a text is one line of mathematics, rather than prose that may hold some."""
    text = text.strip()
    if not text or "\n" in text or len(text) > MAX_CHARACTERS:
        return False
    if text.startswith(AT_A_POINT) or _TIME.fullmatch(text):
        return True
    words = _words(one_notation(text))
    return not words or (any(map(str.isdigit, text)) and all(word.lower() in UNITS for word in words))


def mathematics(text: str) -> str | None:
    """A formula, as one would write it in a box, in one spelling; None if it is empty."""
    text = text[:MAX_CHARACTERS].strip()
    if text.startswith(AT_A_POINT):
        return text
    for delimiter in ("\\(", "\\)", "\\[", "\\]", "$$"):
        text = text.replace(delimiter, " ")
    if any(map(str.isdigit, text)) or "\\pi" in text:
        text = _TEXT_UNIT.sub("", text)
    return _spell(without_markup(one_notation(text)), 0) or None


def _words(text: str) -> list[str]:
    """The words of a text that are neither functions nor products of variables."""
    return [
        word
        for word in _WORD.findall(text)
        if word not in FUNCTIONS and not (len(word) < 4 and word.islower() and word not in ENGLISH | UNITS)
    ]


def _spell(text: str, depth: int) -> str:
    text = _without_grouped_digits(_without_grouping(_without_unit(text)))
    if not text or depth > MAX_DEPTH:
        return _as_text(text)
    found = number(text)
    if found is not None:
        return found
    infinity = re.fullmatch(r"([+-]?)\s?(?:\\infty|∞)", text)
    if infinity:
        return "-∞" if infinity[1] == "-" else "∞"
    if time := _TIME.fullmatch(text):
        return f"{time['time']} {time['half'].lower()}m"
    if re.fullmatch(r"\\emptyset|\\?\{\s*\\?\}", text):
        return "{}"
    return _of_collection(text, depth) or _of_equality(text, depth) or _of_expression(text)


def _of_collection(text: str, depth: int) -> str | None:
    """A union, a set, a list, a tuple or an interval; None if the text is none of these."""
    if not _is_balanced(text):
        return None
    parts = _split(text, r"\\cup(?![a-zA-Z])|∪")
    if len(parts) > 1:
        return " ∪ ".join(sorted({_spell(part, depth + 1) for part in parts}))
    if len(items := _split(text, _LIST_SEPARATOR)) > 1:
        return _of_items(items, depth)
    for opening, closing in (("\\{", "\\}"), ("{", "}")):
        if text.startswith(opening) and text.endswith(closing) and _encloses(text):
            inner = text[len(opening) : -len(closing)]
            if not re.search(r":|\||\\mid(?![a-z])", inner):
                return _of_items(_split(inner, _LIST_SEPARATOR), depth)
    if text[0] in "([" and text[-1] in ")]" and _encloses(text) and len(items := _split(text[1:-1], r"[,;]")) > 1:
        return f"{text[0]}{', '.join(_spell(item, depth + 1) for item in items)}{text[-1]}"
    return None


def _of_items(items: Sequence[str], depth: int) -> str:
    """The items of a list as a set. Values of one variable go without its name."""
    items = [item for item in items if item.strip()]
    if items and all(map(_CONDITION.search, items)):
        return " ∪ ".join(sorted({_spell(item, depth + 1) for item in items}))
    names = [_NAME.match(item) for item in items]
    if len({"".join(name[0].split()) if name else None for name in names}) == 1 or len(items) == 1:
        return _as_set([_spell(item, depth + 1) for item in items])
    return _as_set(
        [
            f"{''.join(name[0].split()).rstrip('=')} = {_spell(item[name.end() :], depth + 1)}"
            if name and name[0].rstrip().endswith("=")
            else _spell(item, depth + 1)
            for item, name in zip(items, names, strict=True)
        ]
    )


def _of_equality(text: str, depth: int) -> str | None:
    """The value of a name, or of a calculation that is written out; None if the text is neither."""
    if _CONDITION.search(text):
        return None
    named = _NAME.match(text)
    if named and _has_value(text[named.end() :]):
        return _spell(text[named.end() :], depth + 1)
    sides = _split(text, "=")
    if len(sides) > 1 and all(map(_has_value, sides[1:])) and (_has_value(sides[0]) or _NAME.match(sides[0] + "=")):
        return _spell(sides[-1], depth + 1)
    return None


def _of_expression(text: str) -> str:
    """An expression, computed with; or as text, where it is none or takes too long."""
    choice = _CHOICE.fullmatch(text)
    if choice:
        return choice[1]
    if _words(text) or not (_MATHEMATICAL.search(text) or len(text) < 4):
        return _as_text(text)
    return SYMPY.spelled(text) or _as_text(text)


def _as_set(members: Sequence[str]) -> str:
    different = sorted({member for member in members if member})
    return different[0] if len(different) == 1 else f"{{{', '.join(different)}}}"


def _as_text(text: str) -> str:
    text = without_markup(text)
    if _MATHEMATICAL.search(text):
        return text if _words(text) else re.sub(r"_\{(\w)\}", r"_\1", "".join(text.split()))
    is_name = len(text) < 4 and text.isupper() and text.lower() not in ENGLISH  # of a point, or of a line by its ends
    return text if is_name else text.casefold()


def _without_unit(text: str) -> str:
    """Without markup, a sign of currency, and a unit after a number."""
    text = without_markup(text).strip("$ ").strip(",;: ")
    if text.startswith(("=", "\\approx", "\\therefore")):
        text = LEADING.sub("", text)
    if not any(map(str.isdigit, text)) and "\\" not in text:
        return _ARTICLE.sub("", text)
    while (found := _UNIT.search(text)) and _is_unit(found["unit"], text[: found.start()]):
        text = text[: found.start()].rstrip(" /*").removesuffix("\\cdot").rstrip()
    if counted := _COUNTED.fullmatch(text):
        text = counted["count"]
    return text[:-1].rstrip() if re.search(r"\d\s?%$", text) else text


def _is_unit(unit: str, before: str) -> bool:
    """Whether a word after a text is a unit. A single letter is one only where no variable can be meant."""
    if not re.search(r"[\d}%)]|\\pi|\\infty", before) or unit.lower() not in UNITS:
        return False
    if len(unit) == 1:
        return bool(re.search(r"\d\s+$|[a-zA-Z\d]\s?/\s?$", before)) and not re.search(r"=|[A-Za-z]\s*$", before)
    return True


def _without_grouped_digits(text: str) -> str:
    """Without commas within numbers, where others are followed by a space, or where nothing is in a list."""
    joined = _GROUPED.sub(lambda found: found[0].replace(",", ""), text)
    return joined if re.search(r",\s", text) or ("," not in joined and not _encloses(text)) else text


def _without_grouping(text: str) -> str:
    """Without brackets around all of it that only group."""
    for _ in range(MAX_DEPTH):
        inner = text[1:-1].strip()
        if not (text.startswith(("(", "{")) and inner and _encloses(text)) or len(_split(inner, r"[,;]")) > 1:
            break
        text = inner
    return text


def _encloses(text: str) -> bool:
    """Whether the bracket that the text starts with is closed by the last one."""
    depth = 0
    for found in re.finditer(r"\\?[()\[\]{}]", text):
        depth += 1 if found[0][-1] in "([{" else -1
        if depth <= 0:
            return found.end() == len(text)
    return False


def _is_balanced(text: str) -> bool:
    """Whether as many brackets close as open, none before; an interval may close with another one."""
    depth = 0
    for found in re.finditer(r"[()\[\]{}]", text):
        depth += 1 if found[0] in "([{" else -1
        if depth < 0:
            return False
    return depth == 0


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that are in no bracket."""
    depth, parts, start = 0, [], 0
    for found in re.finditer(rf"\\?[()\[\]{{}}]|(?P<separator>{separator})|\\[a-zA-Z]+", text):
        if found["separator"] is None:
            if found[0][-1] in "()[]{}":
                depth = max(0, depth + (1 if found[0][-1] in "([{" else -1))
        elif depth == 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def _has_value(text: str) -> bool:
    """Whether no variable is in an expression."""
    text = re.sub(
        r"\\(?:frac|sqrt|times|cdot|pi|infty|pm|circ|cup|emptyset|binom)(?![a-zA-Z])", "", _without_unit(text)
    )
    return bool(text.strip()) and not re.search(r"[A-DF-Za-df-hj-z]|\\[a-zA-Z]", text)
