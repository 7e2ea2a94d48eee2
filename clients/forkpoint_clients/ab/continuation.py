"""Continues the run in a folder: which stored answers a command reuses, what it may change, and what readers must know.

An answer is reused for the same question, sample, policy, server and model. More questions, samples and arms are
requested; fewer select. Answers of other seeds, sampling parameters or questions are never mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item, digest
from forkpoint_clients.evaluate.journal import Journal, JournalError, Stored, Unit, differences

FORMAT = 2
"""The journal's format; increased when its lines change. Format 1 had no digest for each question."""

KIND = "forkpoint ab"
FIXED = ("seed", "sampling")
"""What all answers of a folder share."""

STORED_AS = "stored_as"
"""The name under which an arm's answers are stored, if it is not the arm's."""

EXAMPLES = 3
"""How many changed questions an error names."""


def question_digest(item: Item) -> str:
    """A hash of what is asked, without the reference answer: 16 hex digits."""
    return hashlib.sha256(json.dumps(item.messages, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Continuation:
    """How a command continues a folder. `labels` are the names under which the arms' answers are stored.

    `configure` is for `Journal`; the other fields are known when it has opened.
    """

    configuration: Mapping[str, Any]
    items: Sequence[Item]
    labels: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def configure(self, stored: Stored) -> Mapping[str, Any]:
        """The configuration to store. Raises JournalError if the folder's answers are of another run."""
        if stored.configurations and (conflicts := list(_conflicts(stored, self.configuration, self.items))):
            raise JournalError(
                f"the folder holds another run: {'; '.join(conflicts)}. "
                "Choose another folder with --out, or the same settings to continue"
            )
        arms = self.configuration["arms"]
        self.labels = _labels(stored.configurations, arms)
        self.notices = list(_notices(stored, arms, self.labels))
        labelled = [
            {**arm, STORED_AS: self.labels[arm["name"]]} if self.labels[arm["name"]] != arm["name"] else arm
            for arm in arms
        ]
        return {**self.configuration, "arms": labelled}


def reused(journal: Journal, units: Sequence[Unit], labels: Mapping[str, str]) -> dict[Unit, Answer]:
    """The stored answers to these units."""
    stored = ((unit, journal.answers.get(stored_unit(unit, labels))) for unit in units)
    return {unit: answer for unit, answer in stored if answer is not None}


def stored_unit(unit: Unit, labels: Mapping[str, str]) -> Unit:
    """The unit under which an answer is stored."""
    return Unit(unit.question, unit.sample, labels.get(unit.arm, unit.arm))


def growth(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know of how a run grew, from its configurations in the order of their runs."""
    if len(configurations) < 2:
        return []
    notes = []
    current = configurations[-1]
    sizes, largest = [_size(configurations[0])], _size(configurations[0])
    for configuration in configurations[1:]:
        if (size := _size(configuration)) > largest:
            sizes.append(size)
            largest = size
    if len(sizes) > 1:
        steps = ", then ".join(f"{size:,}" for size in sizes)
        notes.append(
            f"Answers were added after results had been seen ({steps} per arm). If the decision to add them depended "
            "on the results, p-values are too small and intervals too narrow: they assume a size fixed in advance."
        )
    if _size(current) < largest:
        notes.append(f"This shows {_size(current):,} of the {largest:,} answers per arm that were requested.")
    first = {_identity(arm) for arm in configurations[0]["arms"]}
    if later := [arm["name"] for arm in current["arms"] if _identity(arm) not in first]:
        notes.append(
            f"{', '.join(later)}: added later, so its answers are not interleaved with those of the first arms. What "
            "changed on the server in between affects it alone."
        )
    return notes


def _size(configuration: Mapping[str, Any]) -> int:
    """Answers per arm."""
    return int(configuration["data"]["questions"]) * int(configuration["samples"])


def _identity(arm: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an arm's answers depend on."""
    return arm["digest"], arm["server"], arm["model"], arm.get(STORED_AS, arm["name"])


def _conflicts(stored: Stored, configuration: Mapping[str, Any], items: Sequence[Item]) -> Iterator[str]:
    """Why stored answers cannot stand beside those of this command."""
    first = stored.configurations[0]
    if KIND not in first:
        yield f"it is not one of {KIND}"
        return
    for name in FIXED:
        yield from differences(first[name], json.loads(json.dumps(configuration[name])), name)
    yield from _changed_questions(stored, configuration, items)
    before = {arm["name"]: arm for one in stored.configurations for arm in one["arms"]}
    for arm in configuration["arms"]:
        for name in ("server", "model"):
            if arm["name"] in before and before[arm["name"]][name] != arm[name]:
                yield f"{name} of the arm {arm['name']!r} was {before[arm['name']][name]}, is {arm[name]}"


def _changed_questions(stored: Stored, configuration: Mapping[str, Any], items: Sequence[Item]) -> Iterator[str]:
    first = stored.configurations[0]
    if not stored.questions:  # format 1: the digest of all questions
        count = first["data"]["questions"]
        if digest(items[:count]) != first["data"]["digest"]:
            yield f"its {count} questions were others, or more than here"
        return
    current = {item.id: question_digest(item) for item in items}
    known = stored.questions.keys() & current.keys()
    changed = sorted(name for name in known if stored.questions[name] != current[name])
    if changed:
        named = ", ".join(repr(name) for name in changed[:EXAMPLES])
        yield f"{len(changed)} questions have other texts than when they were answered ({named})"
    elif not known:
        before, now = first["data"]["source"], configuration["data"]["source"]
        yield f"none of its {len(stored.questions)} questions (of {before}) is in {now}"


def _labels(configurations: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The name under which each arm's answers are stored.

    That is the arm's name, unless its answers are there under another name, or another policy's under this one.
    """
    owners: dict[str, tuple[Any, ...]] = {}
    for configuration in configurations:
        for arm in configuration["arms"]:
            owners.setdefault(arm.get(STORED_AS, arm["name"]), _key(arm))
    current = {arm["name"] for arm in arms}
    labels: dict[str, str] = {}
    for arm in arms:
        name = arm["name"]
        of_changed = f"{name} {arm['digest']}"
        candidates = [name, of_changed, *(label for label in owners if label not in current)]
        labels[name] = next(
            (label for label in candidates if owners.get(label) == _key(arm) and label not in labels.values()),
            of_changed if name in owners else name,
        )
    return labels


def _key(arm: Mapping[str, Any]) -> tuple[Any, ...]:
    return arm["digest"], arm["server"], arm["model"]


def _notices(stored: Stored, arms: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Iterator[str]:
    """What becomes of stored arms that the command does not use."""
    before = {
        arm.get(STORED_AS, arm["name"]): arm for configuration in stored.configurations for arm in configuration["arms"]
    }
    current = {arm["name"]: arm for arm in arms}
    for label, arm in before.items():
        if label in labels.values():
            continue
        if label in current and current[label]["digest"] != arm["digest"]:
            yield (
                f"the policy of the arm {label!r} has changed ({arm['digest']}, now {current[label]['digest']}): it is "
                "asked anew"
            )
        else:
            yield f"the arm {label!r} is in the folder, not in the command: it is left out; --arm {label} adds it"
