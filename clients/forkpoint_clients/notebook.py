"""A text coloured by entropy, as HTML for a notebook, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

MAX_NATS = 2.5
"""The colour saturates here."""


@dataclass(frozen=True)
class Shade:
    """A token with its entropy (nats; None without a record), its tooltip, and whether it is a fork."""

    token: str
    nats: float | None
    title: str = ""
    fork: bool = False


def page(texts: Iterable[Sequence[Shade]]) -> str:
    """HTML with each text in its own block. The texts are escaped."""
    style = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; margin: 0 0 1em"
    return "".join(f'<div style="{style}">{"".join(map(_span, text))}</div>' for text in texts)


def _span(shade: Shade) -> str:
    strength = 0.0 if shade.nats is None else min(shade.nats, MAX_NATS) / MAX_NATS
    title = shade.title or ("" if shade.nats is None else f"{shade.nats:.2f} nats")
    style = f"background: rgba(255, 140, 0, {0.75 * strength:.2f}); border-radius: 2px"
    if shade.fork:
        style += "; border-bottom: 2px solid rgb(220, 80, 0)"
    return f'<span style="{style}" title="{escape(title)}">{escape(shade.token)}</span>'
