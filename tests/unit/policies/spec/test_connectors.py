"""The families of connector words."""

from __future__ import annotations

import pytest

from forkpoint_policies.spec.connectors import FAMILIES, NOWAIT_WORDS


@pytest.mark.parametrize("words", [*FAMILIES.values(), NOWAIT_WORDS], ids=[*FAMILIES, "NoWait"])
def test_words_are_written_as_they_are_looked_up(words: tuple[str, ...]) -> None:
    assert [word for word in words if word != word.casefold().strip()] == []
    assert len(set(words)) == len(words)


def test_nowait_has_the_papers_words() -> None:
    assert len(NOWAIT_WORDS) == 17
    assert {"wait", "hmm", "double-check"} <= set(NOWAIT_WORDS)


def test_families_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        FAMILIES["reflection"] = ()  # type: ignore[index]
