"""Questions of a data set on the hub: `hf:REPOSITORY[:CONFIG[:SPLIT]][?question=FIELD&answer=FIELD]`, where the package
`datasets` is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

HUB = "hf:"
SPLIT = "test"
FIELDS = ("question", "answer")


class HubDataError(ValueError):
    """A data set that cannot be had; the message says why."""


@dataclass(frozen=True)
class HubSource:
    """A parsed `hf:…`; `question` and `answer` are the names of its fields."""

    repository: str
    config: str | None = None
    split: str = SPLIT
    question: str = "question"
    answer: str = "answer"

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Its rows, as `question` and `answer`. Raises HubDataError."""
        try:
            from datasets import load_dataset
        except ImportError:
            raise HubDataError(f"{HUB}… needs the package datasets; pip install datasets") from None
        try:
            rows = load_dataset(self.repository, self.config, split=self.split)
        except (OSError, ValueError, RuntimeError) as error:
            raise HubDataError(
                f"{HUB}{self.repository} cannot be loaded: {' '.join(str(error).split())[:300]}"
            ) from None
        if missing := {self.question, self.answer} - set(rows.column_names):
            raise HubDataError(
                f"{HUB}{self.repository} has no field {', '.join(sorted(missing))}; it has "
                f"{', '.join(rows.column_names)}. Name them: ?question=FIELD&answer=FIELD"
            )
        for row in rows:
            yield {"question": row[self.question], "answer": row[self.answer]}

    def provenance(self) -> dict[str, Any]:
        """What reports say of these questions, beside their digest."""
        return {"loader": f"datasets {version('datasets')}"}


def parse(source: str) -> HubSource:
    """Parse `hf:REPOSITORY[:CONFIG[:SPLIT]][?question=FIELD&answer=FIELD]`. Raises HubDataError."""
    path, _, query = source.removeprefix(HUB).partition("?")
    repository, *rest = path.split(":")
    fields = dict(parse_qsl(query))
    if not repository or len(rest) > 2 or not all(rest) or (query and not fields) or set(fields) - set(FIELDS):
        raise HubDataError(
            f"{source}: must be {HUB}REPOSITORY, {HUB}REPOSITORY:CONFIG or {HUB}REPOSITORY:CONFIG:SPLIT, with "
            "?question=FIELD&answer=FIELD where they have other names"
        )
    config, split = (*rest, None, None)[:2]
    return HubSource(repository, config, split or SPLIT, **fields)
