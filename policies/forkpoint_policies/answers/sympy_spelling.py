"""Expressions in one spelling, computed by SymPy from what Math-Verify reads: the program of `sympy_process`.

Each line of its input is a JSON list: one formula, to be spelled, or a reference and an answer, to be compared. Each
line of its output is the JSON of the result. No text is evaluated as Python: only Math-Verify's parser of TeX reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import resource
import signal
import sys
from fractions import Fraction
from types import FrameType
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from .notation import closing_braces
from .numbers import spelled

CPU_SECONDS = 2.0
"""For one line, of the process's own time, so that a busy machine does not change what is read."""

MAX_MEMORY_BYTES = 4 << 30
MAX_POWER = 10_000
MAX_SPELLING = 300
"""Characters of a spelling that is written out; a longer one is given by its value at one point."""

WORKING_DIGITS, SHOWN_DIGITS = 40, 15
MAX_DENOMINATOR = 10**6

_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|infty|pi|alpha|beta"
    r"|[gG]amma|[dD]elta|epsilon|zeta|eta|[tT]heta|kappa|[lL]ambda|mu|nu|xi|rho|[sS]igma|tau|[pP]hi|chi|[pP]si|[oO]mega"
    r"|angle)(?![A-Za-z])"
)
_LONG_POWER = re.compile(r"\^\s*(-?\d{2,}|-\d)")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_])\\?i(?:math)?(?![A-Za-z])")
_BASE = re.compile(r"\d\s*_")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?\s*")
_INDEX = re.compile(r"_\s*\{?\s*i(?![A-Za-z])")
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_EXTRACTION = [LatexExtractionConfig(boxed_match_priority=0)]


class UnreadableError(Exception):
    """A formula that has no spelling here."""


class OutOfTimeError(BaseException):
    """The time of one line is over. No `Exception`, which Math-Verify and SymPy catch in places."""


def spell(text: str) -> str:
    """The spelling of a formula. Raises UnreadableError, and what SymPy and Math-Verify's parser raise."""
    if _BASE.search(text):
        raise UnreadableError("a number in another base")  # Math-Verify reads it without its base
    text = _FUNCTION.sub(r"\\\1 ", _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text))
    text = _LONG_POWER.sub(r"^{\1}", _with_braces(text, "^"))
    text = _with_braces(text, r"\\sqrt ").replace("\\sqrt {", "\\sqrt{")
    is_complex = bool(_IMAGINARY.search(text)) and not _INDEX.search(text)
    read = latex2sympy(
        normalize_latex(text, _NORMALIZATION), is_real=not is_complex or None, conversion_config=_CONVERSION
    )
    _check_size(read)
    if is_complex:
        read = read.xreplace({one: sympy.I for one in read.free_symbols if one.name == "i"})
    elif isinstance(read, sympy.Basic):
        read = read.replace(_is_odd_root_of_negative, lambda power: -((-power.base) ** power.exp))
    return _of(read)


def _is_odd_root_of_negative(value: Any) -> bool:
    """Whether a root has a real value that SymPy, which takes the principal one, would not."""
    return bool(
        value.is_Pow
        and value.exp.is_Rational
        and value.exp.p == 1
        and value.exp.q % 2
        and value.exp.q > 1
        and value.base.is_number
        and value.base.doit().is_negative
    )


def agree(reference: str, answer: str) -> bool:
    """Whether Math-Verify takes an answer for the reference, both formulas."""
    read = [parse(f"\\boxed{{{text}}}", _EXTRACTION, parsing_timeout=0) for text in (reference, answer)]
    for expressions in read:
        for expression in expressions:
            if isinstance(expression, sympy.Basic):
                _check_size(expression)
    return bool(verify(read[0], read[1], timeout_seconds=0))


def _with_braces(text: str, operator: str) -> str:
    """Each bracket that an operator is followed by as braces: `x^(a+1)` is `x^{a+1}`."""
    for found in reversed(list(re.finditer(rf"{re.escape(operator) if operator == '^' else operator}\s*\(", text))):
        tail = text[found.end() - 1 :].translate(str.maketrans("(){}", "{}\0\0"))
        close = closing_braces(tail).get(0)
        if close is not None:
            start, end = found.end() - 1, found.end() - 1 + close
            text = f"{text[:start]}{{{text[start + 1 : end]}}}{text[end + 1 :]}"
    return text


def _check_size(value: Any) -> None:
    """Raises UnreadableError for powers and factorials whose digits would take all memory."""
    for part in sympy.preorder_traversal(value):
        if isinstance(part, sympy.Pow) and _bound(part.exp) > MAX_POWER and part.base not in (sympy.E, sympy.S.One):
            raise UnreadableError("a power is too large")
        if isinstance(part, sympy.factorial) and _bound(part.args[0]) > MAX_POWER:
            raise UnreadableError("a factorial is too large")


def _bound(value: Any) -> float:
    """An upper bound of an expression's absolute value, where variables are small."""
    try:
        if value.is_Number or value.is_NumberSymbol:
            return abs(float(value))
        bounds = [_bound(part) for part in value.args]
        if isinstance(value, sympy.Add):
            return sum(bounds)
        if isinstance(value, sympy.Pow):
            lower = value.exp.is_Number and value.exp < 0
            return 1 / bounds[0] if lower and bounds[0] else float(bounds[0] ** bounds[1])
        if isinstance(value, sympy.factorial):
            return math.gamma(bounds[0] + 1)
        return math.prod(bounds)
    except (OverflowError, TypeError, ValueError):
        return math.inf


def _of(value: Any) -> str:
    if isinstance(value, sympy.MatrixBase | sympy.MatrixExpr):
        rows = sympy.Matrix(value.doit()).tolist()
        return f"[{', '.join('[' + ', '.join(map(_of, row)) + ']' for row in rows)}]"
    if isinstance(value, sympy.Tuple | tuple | list):
        return f"({', '.join(map(_of, value))})"
    if isinstance(value, sympy.Set):
        return _of_set(value)
    if isinstance(value, sympy.Eq):
        return _of_equation(value)
    if isinstance(value, Relational | Boolean):
        return _of_condition(value)
    value = value.xreplace({one: sympy.Rational(str(one)) for one in value.atoms(sympy.Float)}).doit()
    if isinstance(value, sympy.Set):
        return _of_set(value)
    return _of_expression(value) if value.free_symbols or value.has(AppliedUndef) else _of_number(value)


def _of_number(value: Any) -> str:
    if value.is_Rational:
        return spelled(Fraction(int(value.p), int(value.q)))
    if value in (sympy.oo, -sympy.oo):
        return "∞" if value == sympy.oo else "-∞"
    real, imaginary = _parts(value)
    if abs(imaginary) < sympy.Float(10) ** -(WORKING_DIGITS - 10):
        return _decimal(real)
    sign, rest = ("-" if imaginary < 0 else "+"), _decimal(abs(imaginary))
    return f"{_decimal(real)} {sign} {rest}*i" if real != 0 else f"{sign.strip('+')}{rest}*i"


def _parts(value: Any) -> tuple[Any, Any]:
    """The real and the imaginary part of a number."""
    real, imaginary = (part.evalf(WORKING_DIGITS) for part in value.evalf(WORKING_DIGITS, chop=True).as_real_imag())
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        raise UnreadableError("has no value")
    return real, imaginary


def _decimal(value: Any) -> str:
    """An exact fraction where the value is one to working precision; else its first digits."""
    exact = sympy.Rational(value)
    found = Fraction(int(exact.p), int(exact.q))
    near = found.limit_denominator(MAX_DENOMINATOR)
    if abs(found - near) < max(Fraction(1), abs(found)) * Fraction(10) ** -(WORKING_DIGITS - 10):
        return spelled(near)
    return spelled(Fraction(str(sympy.Float(value, SHOWN_DIGITS))))


def _of_expression(value: Any) -> str:
    symbols = value.free_symbols
    if not value.is_rational_function(*symbols) or value.has(AppliedUndef):
        value = sympy.simplify(value)
        if not value.free_symbols and not value.has(AppliedUndef):
            return _of_number(value)
    if value.is_rational_function(*symbols) and not value.has(AppliedUndef):
        value = sympy.cancel(value)
        if not value.free_symbols:
            return _of_number(value)
        if len(text := _written(value)) <= MAX_SPELLING:
            return text
    elif value.has(AppliedUndef):
        return _written(value)
    return _at_a_point(value)


def _written(value: Any) -> str:
    text = sympy.sstr(value, order="lex").replace("**", "^").replace("I", "i")
    return re.sub(r"\^(\d{2,})", r"^{\1}", text)


def _at_a_point(value: Any, salt: str = "") -> str:
    """An expression by its value where each variable has a value of its own: equal ones have equal values."""
    names = sorted(one.name for one in value.free_symbols)
    point = {one: _coordinate(one.name + salt) for one in value.free_symbols}
    return f"≡{_rounded(value.xreplace(point))} ({', '.join(names)})"


def _rounded(value: Any) -> str:
    """The first digits of a number."""
    real, imaginary = (spelled(Fraction(str(sympy.Float(part, SHOWN_DIGITS)))) for part in _parts(value))
    return real if imaginary == "0" else f"{real} + {imaginary}*i"


def _coordinate(name: str) -> Any:
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    return sympy.Rational(digest, 2**32) + 1


def _of_equation(value: Any) -> str:
    left, right = value.lhs, value.rhs
    if isinstance(left, AppliedUndef) or isinstance(right, sympy.Set | sympy.MatrixBase):
        return _of(right)
    if left.is_Symbol and not right.free_symbols:
        return _of(right)
    if right.is_Symbol and not left.free_symbols:
        return _of(left)
    polynomial = _polynomial(left - right)
    if polynomial is not None:
        return f"{_written(polynomial)} = 0"
    difference = (left - right).doit()
    ratio = difference.xreplace({one: _coordinate(one.name) for one in difference.free_symbols}) / difference.xreplace(
        {one: _coordinate(one.name + " ") for one in difference.free_symbols}
    )
    return f"≡{_rounded(ratio)} ({', '.join(sorted(one.name for one in difference.free_symbols))} = 0)"


def _polynomial(difference: Any) -> Any:
    """The numerator of a difference without common factors, its first coefficient positive; None if it is none."""
    difference = difference.xreplace({one: sympy.Rational(str(one)) for one in difference.atoms(sympy.Float)}).doit()
    symbols = sorted(difference.free_symbols, key=lambda one: one.name)
    if not symbols or not difference.is_rational_function(*symbols) or difference.has(AppliedUndef):
        return None
    numerator = sympy.Poly(sympy.fraction(sympy.cancel(difference))[0], *symbols)
    _, primitive = numerator.primitive()
    return (primitive if primitive.LC() > 0 else -primitive).as_expr()


def _of_condition(value: Any) -> str:
    if isinstance(value, sympy.And) and all(isinstance(part, sympy.Eq) for part in value.args):
        parts = getattr(value, "_unsorted_args", value.args)
        if parts[0].lhs.is_Symbol:  # x = a = b
            return _of(parts[-1].rhs)
    if len(value.free_symbols) == 1:
        return _of_set(value.as_set())
    if isinstance(value, sympy.And):
        return " and ".join(sorted(map(_of, value.args)))
    if not isinstance(value, Relational):
        raise UnreadableError("no relation")
    difference = value.lhs - value.rhs if value.rel_op in ("<", "<=", "!=") else value.rhs - value.lhs
    numerator, denominator = sympy.fraction(sympy.cancel(difference.doit()))
    if not denominator.is_Number:
        raise UnreadableError("a relation of fractions")
    _, primitive = sympy.Poly(numerator / denominator, *sorted(value.free_symbols, key=str)).primitive()
    sign = {"<": "<", ">": "<", "<=": "≤", ">=": "≤", "!=": "≠"}[value.rel_op]
    return f"{_written(primitive.as_expr())} {sign} 0"


def _of_set(value: Any) -> str:
    if isinstance(value, sympy.FiniteSet):
        members = sorted({_of(member) for member in value.args})
        return members[0] if len(members) == 1 else f"{{{', '.join(members)}}}"
    value = value.doit()
    if value is sympy.S.EmptySet:
        return "{}"
    if value is sympy.S.Reals:
        return "(-∞, ∞)"
    if isinstance(value, sympy.Interval):
        left, right = "(" if value.left_open else "[", ")" if value.right_open else "]"
        return f"{left}{_of(value.start)}, {_of(value.end)}{right}"
    if isinstance(value, sympy.FiniteSet):
        return _of_set(value)
    if isinstance(value, sympy.Union):
        return " ∪ ".join(sorted(map(_of_set, value.args)))
    raise UnreadableError("a set that is not spelled here")


def _answer(request: list[str]) -> str | bool | None:
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        return agree(*request) if len(request) == 2 else spell(request[0])
    except OutOfTimeError:
        return None
    except Exception:  # noqa: BLE001  # what a formula can raise in a parser and in SymPy is not declared anywhere
        return None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError


def main() -> None:
    """Answer each line of the input until it ends."""
    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads the answers ends this one
    signal.signal(signal.SIGVTALRM, _stop)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    for line in sys.stdin:
        answer: str | bool | None = None
        with contextlib.suppress(OutOfTimeError, MemoryError):  # raised as the timer is switched off
            answer = _answer(json.loads(line))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
