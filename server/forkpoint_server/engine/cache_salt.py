"""The salt of the prefix cache for requests whose hidden states are changed.

What vLLM stores of such an answer was computed with the change: only a request that decides alike may find it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from forkpoint_policies.compile.program import ON_STATES, ControlKind, Curve, Program, Shape
from forkpoint_server.branching.interface import ChildStart

ALWAYS = Curve(Shape.CONSTANT, 1.0)


def salted_prompt(prompt: Any, program: Program, key: str, start: ChildStart, prompt_tokens: Sequence[int]) -> Any:
    """The prompt as vLLM takes it, with a salt if its program changes states. `start` is the state at the prompt's end.

    The client's own salt still counts. The length of the prompt is part of the salt: the next turn of a conversation
    has what was generated in its prompt, where nothing is changed. Where chance decides, no other request decides
    alike.
    """
    if not isinstance(prompt, dict) or not changes_states(program):
        return prompt
    own: list[Any] = [prompt.get("cache_salt"), key, len(prompt_tokens), start.word_state, start.region]
    if _by_chance(program):
        own.append(secrets.token_hex(16))
    return {**prompt, "cache_salt": sha256(repr(own).encode()).hexdigest()}


def tree_salt(program: Program) -> str | None:
    """A salt for the requests of one tree, if their program changes states: nobody else finds what they compute."""
    return secrets.token_hex(16) if changes_states(program) else None


def salted_tree_prompt(prompt: dict[str, Any], salt: str | None, group: int) -> dict[str, Any]:
    """The prompt of a request of a tree with this salt and in this group. The client's own salt still counts."""
    if salt is None:
        return prompt
    own = prompt.get("cache_salt"), salt, group
    return {**prompt, "cache_salt": sha256(repr(own).encode()).hexdigest()}


def changes_states(program: Program) -> bool:
    """Whether requests with this program may have hidden states changed."""
    return not program.shadow and any(rule.action in ON_STATES for rule in program.rules)


def _by_chance(program: Program) -> bool:
    return any(rule.probability != ALWAYS or rule.control == ControlKind.POSITIONS for rule in program.rules)
