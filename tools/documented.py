"""The fenced blocks of the documentation, and where each is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "reference"
"""Generated from the code (tools/reference.py); tests/unit/test_docs.py compares them."""
PAGES = tuple(
    sorted(
        path
        for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
        if path.parent != GENERATED
    )
)
FENCE = re.compile(r"^```(\S*)[ ]?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN, SHOWN = ("python", "bash"), ("json", "yaml", "jsonl", "text", "javascript")
"""Languages of blocks that are run, and of those that are not: policies and other data, and output of commands."""

ELSEWHERE: Mapping[str, str] = {
    "make serve": "starts the server",
    "make test": "runs the tests, of which this is one",
    "pip install": "installs, or needs a GPU; tests/unit/test_wheels.py installs the wheels",
    "from forkpoint_server.demo import WEIGHTS": "starts an engine, as tests/integration/engine/test_offline.py does",
    "forkpoint serve": "starts another server, or needs a GPU",
    "docker compose": "needs Docker",
    "createdb": "needs a PostgreSQL in which one may create databases; the store's tests start their own",
    "from langchain_openai import": "is installed elsewhere; tests/integration/clients/test_recipes.py runs it there",
    "import litellm": "is installed elsewhere; tests/integration/clients/test_recipes.py runs it there",
    "from inspect_ai import": "is installed elsewhere; tests/integration/clients/test_recipes.py runs it there",
    "FORKPOINT_BASE_URL": "is installed elsewhere; tests/integration/clients/test_recipes.py runs it there",
    "lm_eval run": "is installed elsewhere; tests/integration/clients/test_recipes.py runs it there",
    "vllm bench serve": "loads a server for minutes",
    "guidellm run": "is installed elsewhere, and loads a server for minutes",
    "aiperf profile": "is installed elsewhere, and loads a server for minutes",
    "forkpoint evidence": "takes hours; tests/integration/api/test_evidence.py has a shorter one",
    "forkpoint readout fit": "takes minutes; tests/integration/api/test_states.py has a shorter one",
    "forkpoint steer fit": "takes minutes; tests/integration/launch/test_steering.py has a shorter one",
    "forkpoint findings mi-peaks": "takes ten minutes; tests/integration/api/test_findings.py has a shorter one",
    "forkpoint findings sparse-forks": "takes an hour; tests/integration/api/test_findings.py has a shorter one",
}
"""Blocks that cannot be run here, by how they start, and why. Their syntax and arguments are checked."""

LONG: Mapping[str, str] = {
    "forkpoint ab --data countdown:hard": "hundreds of answers",
    "forkpoint calibrate": "50,000 tokens",
}
"""Blocks that take minutes, by how they start: `make soak` runs these pages whole, `make test` without them."""


@dataclass(frozen=True)
class Block:
    """A fenced block. With a `file` (the second word after the fence), the page's commands find its text there."""

    page: str
    line: int
    language: str
    file: str
    text: str

    def starts_with(self, beginnings: Iterable[str]) -> bool:
        return self.text.startswith(tuple(beginnings))

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> tuple[Block, ...]:
    """Return the blocks of a page in order. Raises ValueError for a fence that is not closed or is indented."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix()
    found = [
        Block(name, text.count("\n", 0, match.start()) + 1, match[1], match[2], match[3])
        for match in FENCE.finditer(text)
    ]
    if text.count("```") != 2 * len(found):
        raise ValueError(f"{name}: a fence is not closed, or does not start its line")
    return tuple(found)


BLOCKS = tuple(block for page in PAGES for block in blocks(page))


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a script of commands and comments, without leading variable assignments."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words:
            yield words
