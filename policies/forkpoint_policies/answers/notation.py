"""One notation for what Unicode, TeX and plain text write in several ways: signs, spaces, fractions, brackets."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\u2015\ufe63\uff0d\u207b\u2796", "-"),
        **dict.fromkeys("\u00d7\u2715\u2716\u2a2f", "\\times "),
        **dict.fromkeys("\u00b7\u22c5\u2219", "\\cdot "),
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u2018\u2019\u02bc\u2032", "'"),
        "\u00f7": "/",
        "\u221a": "\\sqrt ",
        "\u221e": "\\infty ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u2248": "\\approx ",
        "\u2208": "\\in ",
        "\u222a": "\\cup ",
        "\u2229": "\\cap ",
        "\u2205": "\\emptyset ",
        "\u00b1": "\\pm ",
        "\u00b0": "^{\\circ}",
        "\u2113": "l",
        "\ufeff": "",
        "\u200b": "",
        "\u2061": "",
        "\u2062": "",
    }
)
_GREEK = {chr(code): unicodedata.name(chr(code)).rpartition(" ")[2].lower() for code in (*range(0x3B1, 0x3C9),)}
_GREEK |= {"\u03bb": "lambda", "\u03c2": "sigma", "\u03c9": "omega"}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_VULGAR = re.compile("(?<=\\d)(?=[\u00bc-\u00be\u2150-\u215e\u2189])")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\\[,;:! ]|\{\\,\}|~|[\u00a0\u2000-\u200a\u202f])+(?=\d{3}(?!\d))")
_TEX_COMMA = re.compile(r"\{\s*,\s*\}")
_GROUPING_COMMA = re.compile(r"(?<=\d)\{\s*,\s*\}(?=\d{3}(?!\d))")
_TEX_SPACE = re.compile(r"(?<!\\)\\(?:[,;:! >]|q?quad(?![a-zA-Z]))|~")
_DROPPED = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|boldsymbol|bm)(?![a-zA-Z])\s?"
)
_TEXT = re.compile(r"\\(?:text(?:normal|bf|it|rm|sf|tt)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac(?![a-zA-Z])\s*")
_ROOT = re.compile(r"\\sqrt\s*(\d|[a-zA-Z](?![a-zA-Z]))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_POWER = re.compile(r"(?<=[\w)\]}])(?:\*\*(?=[\w({\\-])| \*\* (?=[\w({\\-]))")
_SYNONYMS = [
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne"),
    (re.compile(r"\\(?:varnothing|empty)(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\(?:lbrace|\{)"), r"\\{"),
    (re.compile(r"\\(?:rbrace|\})"), r"\\}"),
    (re.compile(r"\\lbrack(?![a-zA-Z])"), "["),
    (re.compile(r"\\rbrack(?![a-zA-Z])"), "]"),
    (re.compile(r"\^\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])"), r"^{\\circ}"),
    (re.compile(r"\\langle(?![a-zA-Z])"), "("),
    (re.compile(r"\\rangle(?![a-zA-Z])"), ")"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\\$"), "$"),
]

MAX_CHARACTERS = 1 << 12
"""Of a text that is read at once: some patterns take quadratic time."""


def one_notation(text: str) -> str:
    r"""The text with ASCII signs, TeX's `\frac{a}{b}`, without spacing, sizes of brackets and fonts."""
    text = _THIN_SPACE.sub("", text)
    if not text.isascii():
        text = _SUPERSCRIPT.sub(lambda found: "^{" + "".join(_SUPERSCRIPTS[one] for one in found[0]) + "}", text)
        text = _VULGAR.sub(" ", text)
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
        text = "".join(f"\\{_GREEK[one]} " if one in _GREEK else one for one in text)
    text = _TEX_COMMA.sub(",", _GROUPING_COMMA.sub("", text))
    if "\\" in text:
        text = _of_tex(text)
    return _POWER.sub("^", text)


def _of_tex(text: str) -> str:
    text = _TEX_SPACE.sub(lambda found: "" if found[0] == "\\!" else " ", text)
    text = _DROPPED.sub("", text)
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    while (inner := _TEXT.sub(r" \1 ", text)) != text and len(text) < MAX_CHARACTERS:
        text = inner
    return _ROOT.sub(r"\\sqrt{\1}", _with_braces(text))


def _with_braces(text: str) -> str:
    r"""Each `\frac12`, `\frac1{2}` or `\dfrac 1 2` as `\frac{1}{2}`."""
    found = list(_FRACTION.finditer(text))
    if not found:
        return text
    characters, closing = list(text), closing_braces(text)
    for fraction in found:
        characters[fraction.start() : fraction.end()] = ["\\frac", *[""] * (len(fraction[0]) - 1)]
        at = fraction.end()
        for _ in range(2):
            while at < len(text) and text[at] == " ":
                characters[at] = ""
                at += 1
            if at < len(text) and text[at].isalnum():
                characters[at] = "{" + text[at] + "}"
                at += 1
            elif at in closing:
                at = closing[at] + 1
            else:
                break
    return "".join(characters)


def closing_braces(text: str) -> dict[int, int]:
    """The index of the brace that closes each one, by the index of that. A brace after a backslash is a character."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for found in _BRACE.finditer(text):
        if found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}" and opened:
            closing[opened.pop()] = found.start()
    return closing


def without_markup(text: str) -> str:
    """Without what does not change an answer: spaces, markup around it, a full stop at its end."""
    text = " ".join(text.split())
    while (inner := text.strip("*`$ ").rstrip(".")) != text:
        text = inner
    return text
