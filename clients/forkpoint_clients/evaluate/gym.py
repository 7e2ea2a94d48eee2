"""Questions of reasoning-gym's generators, scored as they score: `gym:NAME[:SIZE[:SEED]]`. An optional extra.

Their scorers expect an answer alone. It is taken out of a text as what the last `<answer>…</answer>` holds, else the
last `\\boxed{…}`, else, where the reference answer is a number, the last number, else the last line
without "The answer is".
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from forkpoint_policies.spec.answer_extractors import extractor

if TYPE_CHECKING:
    from collections.abc import Iterator

GYM = "gym:"
DISTRIBUTION = "reasoning-gym"
EXTRA = f'{GYM}… needs {DISTRIBUTION}; pip install "forkpoint-clients[gym]"'
SIZE = 500
"""The number of questions if none is named."""

STATED = re.compile(r"(?:answer is|answer:)\s*(.+)$", re.IGNORECASE)
TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class GymError(ValueError):
    """A generator that does not exist or cannot be had; the message says what would be valid."""


@dataclass(frozen=True)
class GymSource:
    """A parsed `gym:NAME[:SIZE[:SEED]]`."""

    name: str
    size: int = SIZE
    seed: int = 0

    def entry(self, index: int) -> Mapping[str, Any]:
        """A question as reasoning-gym has it: `question`, `answer` and `metadata`. Raises GymError."""
        with _own_randomness():
            generated: Mapping[str, Any] = _generator(self)[index]
        return generated

    def provenance(self) -> dict[str, Any]:
        """What reports say of these questions."""
        return {"generator": f"{DISTRIBUTION} {version(DISTRIBUTION)}", "data_seed": self.seed}


def parse(source: str) -> GymSource:
    """Parse `gym:NAME[:SIZE[:SEED]]`. Raises GymError."""
    name, *numbers = source.removeprefix(GYM).split(":")
    if not name or len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise GymError(f"{source}: must be {GYM}NAME, {GYM}NAME:SIZE or {GYM}NAME:SIZE:SEED, as in {GYM}chain_sum:300")
    parsed = GymSource(name, *(int(number) for number in numbers))
    if parsed.size < 1:
        raise GymError(f"{source}: the size must be at least 1")
    return parsed


def score(source: GymSource, index: int, text: str) -> float:
    """The generator's own score of the answer that a text states. Raises GymError, and what the generator raises."""
    entry = source.entry(index)
    with _own_randomness():
        return float(_generator(source).score_answer(stated_answer(text, str(entry["answer"])), entry))


def stated_answer(text: str, reference: str) -> str | None:
    """The answer alone, as the generators' scorers expect it; None if the text states none."""
    if tagged := TAG.findall(text):
        return str(tagged[-1]).strip()
    if (boxed := extractor("boxed")(text)) is not None:
        return boxed
    if _is_number(reference):
        return extractor("last_number")(text)
    line = extractor("last_line")(text)
    stated = STATED.search(line or "")
    return stated[1].strip().removesuffix(".") if stated else line


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8)
def _generator(source: GymSource) -> Any:
    try:
        from reasoning_gym import create_dataset
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        missing = error.name if error.name not in (None, "reasoning_gym") else DISTRIBUTION
        raise GymError(f"{EXTRA} (missing: {missing})") from None
    if source.name not in DATASETS:
        raise GymError(f"there is no generator {GYM}{source.name}; there are {', '.join(sorted(DATASETS))[:300]}…")
    create: Callable[..., Any] = create_dataset
    try:
        return create(source.name, size=source.size, seed=source.seed)
    except (AssertionError, TypeError, ValueError) as error:
        raise GymError(f"{GYM}{source.name} cannot be generated: {error}") from None


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Keep Python's global generator as it was: a few generators of questions seed it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
