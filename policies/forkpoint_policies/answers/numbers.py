"""Exact numbers in one spelling: `1{,}000.50`, `\\frac{1}{2}` and `10^5` are read as what they are worth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

from .notation import MAX_CHARACTERS, one_notation

MAX_DIGITS = 40
"""Of a number that is written out; a larger one is written with an exponent."""

MAX_EXPONENT = 400
"""Of a power, and the most digits of a number: beyond them a text is not read as one."""

_READ = 16 * MAX_CHARACTERS
"""Characters of a text's end in which its last number is looked for."""

MAX_PRECISION = 10_000
"""More digits than any number within these limits has."""

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d{1,3}(?:['_]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TIMES = r"(?:\*|\\times|\\cdot|x(?=\s?10\b))"
_TERM = (
    rf"(?:(?P<whole>\d+)\s*)?\\frac\{{\s*(?P<top>-?(?:{_PLAIN}))\s*\}}\{{\s*(?P<bottom>-?(?:{_PLAIN}))\s*\}}"
    r"|(?P<repeating>\d*\.\d*)\\(?:overline|bar|dot)\s?\{?(?P<period>\d+)\}?"
    rf"|(?:(?P<mixed>\d+)\s+(?=\d+\s?/))?(?P<upper>{_PLAIN})\s?/\s?(?P<lower>{_PLAIN})"
    rf"|(?P<plain>{_PLAIN})(?:[eE](?P<exponent>[+-]?\d+)(?![\d.]))?"
    rf"(?:\s?\^\s?\{{?\s?(?P<power>-?\d+)\s?\}}?)?"
    rf"(?:\s?{_TIMES}\s{{0,2}}10\s?\^\s?\{{?\s?(?P<scale>-?\d+)\s?\}}?)?"
)
_NUMBER = re.compile(_TERM)
_WHOLE = re.compile(
    rf"(?P<sign>[+-]?)\s?(?P<currency>[$€£¥₹]?)\s?(?P<minus>-?)(?:{_TERM})\s?(?P<unit>%|\^\{{\\circ\}})?"
)
_GROUPED_BY_SPACE = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d])")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])0,(\d+)(?![\d,.])")
_LABEL = re.compile(
    r"\b(?:eqs?|eqn|equations?|steps?|figs?|figures?|tables?|sections?|sec|chapters?|ch|parts?|cases?|lines?|lemmas?"
    r"|theorems?|props?|problems?|questions?|exercises?|examples?|refs?|references?|footnotes?|notes?|pages?|pp?"
    r"|no(?=\.)|items?|rules?|methods?|options?|attempt|version)\b\.?\s?[(\[#]?\s?$"
    r"|[A-Za-z\}]\s?[_^]\s?\{?$"  # a subscript, or the power of a unit
    r"|(?<!\bRs)(?<!\bUSD)(?<!\bEUR)(?<!\bGBP)(?<!\bINR)(?<=[A-Za-z])$",
    re.IGNORECASE,
)
_PRECISION = re.compile(
    r"\s?(?:-\s?)?(?:significant|decimal|sig\.?\s?figs?|s\.?f\b|d\.?p\b|places\b|digits\b|sf\b|dp\b)", re.IGNORECASE
)
_CITATION = re.compile(r"[^\s=<>+*/^(,{\\-]\s?\[$")
_REMARK = re.compile(r"(?<=[\d%}$*])\s?\([^()\n]*[A-Za-z]{2,}[^()\n]*\)")


def number(text: str) -> str | None:
    """The number that the whole of a text is, in one spelling; None if it is none. A unit of percent is dropped."""
    found = _whole(_GROUPED_BY_SPACE.sub(lambda group: group[0].replace(" ", ""), one_notation(text).strip()))
    return None if found is None else spelled(found)


def plain_number(text: str) -> str | None:
    """As `number`, for a text that is digits with separators and a sign: no fraction, power, currency or unit."""
    text = one_notation(text).strip()
    return number(text) if re.fullmatch(rf"-?\s?(?:{_PLAIN})", text) and not re.match(r"-?\s?0\d", text) else None


def last_number(text: str) -> str | None:
    """The last number of a text that is a value: not the number of an equation, a step or a reference.

    Where no number is a value, it is the last one of all.
    """
    label = None
    for piece in _pieces_from_the_end(text):
        line = one_notation(piece)
        remarks = [found.span() for found in _REMARK.finditer(line)]
        for found in reversed(list(_NUMBER.finditer(line))):
            if (value := _value(found)) is None:
                continue
            before = line[max(0, found.start() - 40) : found.start()]
            value = -value if _is_negative(before) else value
            is_label = (
                _LABEL.search(before)
                or _PRECISION.match(line, found.end())
                or (line[found.end() : found.end() + 1] == "]" and _CITATION.search(before))
            )
            if not is_label and not any(start <= found.start() < end for start, end in remarks):
                return spelled(value)
            label = value if label is None else label
    return None if label is None else spelled(label)


def _pieces_from_the_end(text: str) -> Iterator[str]:
    """The lines, long ones in pieces."""
    for line in reversed(text[-_READ:].splitlines()):
        end = len(line)
        while end > 0:
            start = max(0, end - MAX_CHARACTERS)
            if start and (space := line.find(" ", start, end)) >= 0:
                start = space
            yield line[start:end]
            end = start


def _is_negative(before: str) -> bool:
    """Whether the text before a number ends in its sign, rather than in a minus between two numbers or a hyphen."""
    stripped = before.rstrip("$€£¥₹")
    if not stripped.rstrip(" ").endswith("-"):
        return False
    if stripped.endswith(" "):  # a list's dash, unless something stands before it that wants a number
        return bool(re.search(r"[=(<>{\[]\s*-\s$", stripped))
    left = stripped[:-1]
    if not left or left[-1] in " \t":
        return not re.search(r"[\d)}\]]\s+$", left) or bool(re.search(r"[=,;]\s+$", left))
    return not re.search(r"[\w)\]}!%']$", left)


def _whole(text: str) -> Fraction | None:
    text = _DECIMAL_COMMA.sub(r"0.\1", text)
    found = _WHOLE.fullmatch(text)
    if found is None:
        return None
    value = _value(found)
    if value is None:
        return None
    return -value if (found["sign"] == "-") != bool(found["minus"]) else value


def _value(found: re.Match[str]) -> Fraction | None:
    """What a match of the pattern is worth; None if nothing, or too much to compute with."""
    try:
        if found["top"] is not None:
            value = _decimal(found["top"]) / _decimal(found["bottom"])
            return value + int(found["whole"]) if found["whole"] else value
        if found["period"] is not None:
            return _repeating(found["repeating"], found["period"])
        if found["upper"] is not None:
            return int(found["mixed"] or 0) + _decimal(found["upper"]) / _decimal(found["lower"])
        value = _decimal(found["plain"])
        exponent, power, scale = (int(found[name] or 0) for name in ("exponent", "power", "scale"))
        if max(map(abs, (exponent, power, scale))) > MAX_EXPONENT:
            return None
        if found["power"] is not None:
            if len(found["plain"]) * abs(power) > 4 * MAX_EXPONENT:
                return None
            value = value**power
        return value * Fraction(10) ** exponent * Fraction(10) ** scale
    except (ArithmeticError, ValueError):  # a zero below; more digits than Python reads
        return None


def _decimal(text: str) -> Fraction:
    if len(text) > MAX_EXPONENT:
        raise ValueError("too many digits")
    return Fraction(re.sub(r"[,'_\s]", "", text))


def _repeating(before: str, period: str) -> Fraction:
    whole, _, decimals = before.partition(".")
    if len(before) + len(period) > MAX_EXPONENT:
        raise ValueError("too many digits")
    shift = 10 ** len(decimals)
    return Fraction(int(whole + decimals or "0"), shift) + Fraction(int(period), shift * (10 ** len(period) - 1))


def spelled(value: Fraction) -> str:
    """A decimal without trailing zeros where there is one, as `0.5`; else a reduced fraction, as `1/3`."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    with localcontext(prec=MAX_PRECISION):
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        if exact == 0:
            return "0"
        exact = exact.normalize()
    return format(exact, "f") if abs(exact.adjusted()) < MAX_DIGITS else str(exact)
