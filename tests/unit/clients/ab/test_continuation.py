"""Continuing a folder's run: which stored answers belong to which arm, what is refused, and what is noted."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_clients.ab.continuation import Continuation, growth, question_digest
from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item, digest
from forkpoint_clients.evaluate.journal import JournalError, Stored, Unit

ITEMS = [Item(f"q{number}", ({"role": "user", "content": f"{number}?"},), number) for number in range(4)]


def arm(name: str, digest: str | None = None, **more: str) -> dict[str, Any]:
    return {"name": name, "policy": name, "digest": digest, "server": "http://x/v1", "model": "m", **more}


def configuration(*arms: dict[str, Any], questions: int = 4, samples: int = 1, **more: Any) -> dict[str, Any]:
    data = {"source": "d", "questions": questions, "digest": digest(ITEMS[:questions])}
    return {"forkpoint ab": 2, "data": data, "arms": list(arms), "samples": samples, "seed": 0, "sampling": {}, **more}


def stored(*configurations: dict[str, Any]) -> Stored:
    answers = {Unit("q0", 0, one["name"]): Answer() for one in configurations[0]["arms"]}
    return Stored(configurations, answers, {"q0": question_digest(ITEMS[0])}, 1)


def labels(before: Stored, *arms: dict[str, Any]) -> dict[str, str]:
    continuation = Continuation(configuration(*arms), ITEMS)
    continuation.configure(before)
    return continuation.labels


def test_answers_are_found_by_what_made_them() -> None:
    before = stored(configuration(arm("none"), arm("calm", "3f")))
    assert labels(before, arm("none"), arm("calm", "3f")) == {"none": "none", "calm": "calm"}
    assert labels(before, arm("none"), arm("quiet", "3f")) == {"none": "none", "quiet": "calm"}, "only renamed"
    assert labels(before, arm("none"), arm("again")) == {"none": "none", "again": "again"}, "an A/A arm has its own"
    assert labels(before, arm("none"), arm("calm", "77")) == {"none": "none", "calm": "calm 77"}, "another policy"
    swapped = labels(before, arm("calm"), arm("none", "3f"))
    assert swapped == {"calm": "calm None", "none": "none 3f"}, "names that changed their meaning"


def test_a_changed_policy_is_found_again() -> None:
    first = configuration(arm("calm", "3f"))
    second = configuration(arm("calm", "77", stored_as="calm 77"))
    assert labels(stored(first, second), arm("calm", "77")) == {"calm": "calm 77"}
    assert labels(stored(first, second), arm("calm", "3f")) == {"calm": "calm"}
    continuation = Continuation(configuration(arm("calm", "77")), ITEMS)
    assert continuation.configure(stored(first))["arms"][0]["stored_as"] == "calm 77"
    assert continuation.notices == ["the policy of the arm 'calm' has changed (3f, now 77): it is asked anew"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"sampling": {"max_tokens": 9}}, "sampling.max_tokens was null, is 9"),
        ({"arms": [arm("none", server="http://y/v1")]}, "server of the arm 'none' was http://x/v1, is http://y/v1"),
    ],
)
def test_conflicts_are_refused_with_what_differs(changed: dict[str, Any], said: str) -> None:
    continuation = Continuation({**configuration(arm("none")), **changed}, ITEMS)
    with pytest.raises(JournalError, match=said):
        continuation.configure(stored(configuration(arm("none"))))


def test_a_journal_without_digests_of_questions_is_continued_with_the_same_data() -> None:
    """As those of version 0.1 are."""
    before = stored(configuration(arm("none"), questions=3))._replace(questions={})
    continuation = Continuation(configuration(arm("none")), ITEMS)
    assert continuation.configure(before)
    with pytest.raises(JournalError, match="its 3 questions were others"):
        Continuation(configuration(arm("none")), ITEMS[1:]).configure(before)


def test_the_journal_of_findings_is_not_one_of_ab() -> None:
    before = Stored([{"forkpoint findings": 1}], {Unit("q0", 0, "x"): Answer()}, {}, 1)
    with pytest.raises(JournalError, match="it is not one of forkpoint ab"):
        Continuation(configuration(arm("none")), ITEMS).configure(before)


def test_growth_is_noted_once_and_a_selection_is_none() -> None:
    one = arm("none")
    small, large = configuration(one, questions=2), configuration(one)
    assert growth([large]) == []
    assert growth([large, small, large]) == [], "back to what was planned first"
    (note,) = growth([small, large])
    assert "(2, then 4 per arm)" in note
    assert growth([large, small]) == ["This shows 2 of the 4 answers per arm that were requested."]
    (later,) = growth([large, configuration(one, arm("calm", "3f"))])
    assert later.startswith("calm: added later")
