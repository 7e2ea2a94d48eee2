"""A trace as HTML for a notebook, light or dark: facts, scale, texts coloured by entropy, and the tree's answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

MAX_NATS = 2.5
"""The colour saturates here."""

SCALE_STEPS = 6
SOFT = "opacity: 0.7; font-size: 0.9em; margin: 0 0 0.5em"
CELL = "text-align: left; padding: 0 1em 0 0; border: 0"


@dataclass(frozen=True)
class Shade:
    """Tokens with their entropy (nats; None without a record), their tooltip, and their marks.

    `acted`: the policy had an effect there. `forced`: the policy wrote it, so nothing was sampled.
    """

    token: str
    nats: float | None
    title: str = ""
    fork: bool = False
    acted: bool = False
    forced: bool = False


@dataclass(frozen=True)
class Text:
    """One text: its shades, of which those from `answer` on follow the reasoning (None: none of it is reasoning)."""

    title: str
    shades: Sequence[Shade]
    answer: int | None = None


def page(texts: Iterable[Text], facts: str = "", rows: Sequence[Sequence[str]] = (), link: str | None = None) -> str:
    """HTML with the facts and a link, the scale, a table (its first row are the titles), and each text in a block.

    Everything is escaped.
    """
    texts = list(texts)
    opened = "" if link is None else f' · <a href="{escape(link)}">open in the viewer</a>'
    head = f'<p style="{SOFT}">{escape(facts)}{opened}</p>' if facts or opened else ""
    return head + _scale([shade for text in texts for shade in text.shades]) + _table(rows) + "".join(map(_text, texts))


def _scale(shades: Sequence[Shade]) -> str:
    """What the colours and the marks mean; a mark that does not occur is left out."""
    steps = [MAX_NATS * step / (SCALE_STEPS - 1) for step in range(SCALE_STEPS)]
    parts = [
        "entropy "
        + "".join(f'<span style="{_style(Shade("", nats))}; padding: 0 0.4em">{nats:g}</span>' for nats in steps)
        + " nats",
        *(
            f'<span style="{_style(example)}">{escape(example.token)}</span>'
            for example, occurs in (
                (Shade("fork", None, fork=True), any(shade.fork for shade in shades)),
                (Shade("policy acted", None, acted=True), any(shade.acted for shade in shades)),
                (Shade("forced", None, forced=True), any(shade.forced for shade in shades)),
            )
            if occurs
        ),
    ]
    return f'<p style="{SOFT}">{" &nbsp; ".join(parts)}</p>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [
        "<tr>" + "".join(f'<{kind} style="{CELL}">{escape(cell)}</{kind}>' for cell in row) + "</tr>"
        for kind, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    ]
    return f'<table style="font-size: 0.9em; margin: 0 0 1em">{"".join(lines)}</table>'


def _text(text: Text) -> str:
    title = f'<p style="{SOFT}">{escape(text.title)}</p>' if text.title else ""
    if text.answer is None:
        return title + _block(text.shades)
    reasoning, answer = text.shades[: text.answer], text.shades[text.answer :]
    label = f'<p style="{SOFT}">answer</p>'
    return title + _block(reasoning) + (label + _block(answer) if answer else "")


def _block(shades: Iterable[Shade]) -> str:
    style = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; margin: 0 0 1em"
    return f'<div style="{style}">{"".join(map(_span, shades))}</div>'


def _span(shade: Shade) -> str:
    title = shade.title or ("" if shade.nats is None else f"{shade.nats:.2f} nats")
    return f'<span style="{_style(shade)}" title="{escape(title)}">{escape(shade.token)}</span>'


def _style(shade: Shade) -> str:
    strength = 0.0 if shade.nats is None else min(shade.nats, MAX_NATS) / MAX_NATS
    style = f"background: rgba(255, 140, 0, {0.75 * strength:.2f}); border-radius: 2px"
    if shade.fork:
        style += "; border-bottom: 2px solid rgb(220, 80, 0)"
    if shade.acted:
        style += "; text-decoration: underline wavy rgb(37, 99, 235)"
    if shade.forced:
        style += "; outline: 1px solid currentColor"
    return style
