"""The fenced blocks of the documentation, and where each is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "reference"
"""Written from the code (tools/reference.py), and held to it by a test of its own."""
PAGES = tuple(
    sorted(
        path
        for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
        if path.parent != GENERATED
    )
)
FENCE = re.compile(r"^```(\S*)[ ]?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN, SHOWN = ("python", "bash"), ("json", "yaml", "jsonl", "text")
"""Languages of blocks that are run, and of those that are not: policies and other data, and what a command printed."""

ELSEWHERE: Mapping[str, str] = {
    "make serve": "starts the server",
    "make test": "runs the tests, of which this is one",
    "pip install": "needs a GPU",
    "PYTHONPATH=policies python -m forkpoint_policies.kernel.signals.check": "needs a GPU",
    "forkpoint serve": "starts another server, or needs a GPU",
    "docker compose": "needs Docker",
    "createdb": "needs a PostgreSQL in which one may create databases; the store's tests start their own",
    "ray start": "needs several machines",
    "forkpoint findings --questions": "takes an hour; tests/integration/api/test_findings.py has a shorter one",
}
"""What cannot be run here, by how a block begins, and why. Its syntax is checked, and the arguments of its commands."""

LONG: Mapping[str, str] = {
    "forkpoint ab --data countdown:hard": "hundreds of answers",
    "forkpoint calibrate": "50,000 tokens",
}
"""What takes minutes, by how a block begins: `make soak` runs these pages as a whole, `make test` without it."""


@dataclass(frozen=True)
class Block:
    """A fenced block. With a `file` (the second word after the fence) a page's commands find its text under that name."""

    page: str
    line: int
    language: str
    file: str
    text: str

    def begins(self, beginnings: Iterable[str]) -> bool:
        return self.text.startswith(tuple(beginnings))

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> tuple[Block, ...]:
    """The blocks of a page, in their order. Raises ValueError for a fence that is not closed, or stands within a list."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix()
    found = [
        Block(name, text.count("\n", 0, match.start()) + 1, match[1], match[2], match[3])
        for match in FENCE.finditer(text)
    ]
    if text.count("```") != 2 * len(found):
        raise ValueError(f"{name}: a fence is not closed, or does not begin its line")
    return tuple(found)


BLOCKS = tuple(block for page in PAGES for block in blocks(page))


def commands(script: str) -> Iterator[list[str]]:
    """The words of each command of a script that has nothing but commands and comments, without variables before them."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words:
            yield words
