"""The named policies: a user could have written each of them, and each runs on any vocabulary with the letters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from forkpoint_policies import library
from forkpoint_policies.catalog import with_placebo
from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action
from forkpoint_policies.library import LIBRARY, Entry
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.spec.connectors import NOWAIT_WORDS
from tests.unit.policies.vocabularies import TARGET

ENTRIES = pytest.mark.parametrize("entry", LIBRARY.values(), ids=LIBRARY.keys())


def test_every_file_of_the_folder_is_in_the_library() -> None:
    files = {path.stem for path in Path(library.__path__[0]).glob("[!_]*.py")}
    assert {name.replace("-", "_") for name in LIBRARY} == files
    assert {"nowait", "observe"} <= LIBRARY.keys()
    assert list(LIBRARY) == sorted(LIBRARY)


@ENTRIES
def test_each_entry_is_read_from_its_own_json(entry: Entry) -> None:
    written = json.loads(entry.policy.model_dump_json(exclude_unset=True))
    assert parse_policy(written) == entry.policy
    assert parse_policy(written).digest == entry.policy.digest


@ENTRIES
def test_each_entry_has_a_description_and_a_caution(entry: Entry) -> None:
    assert entry.policy.description == entry.description
    assert entry.description
    assert entry.caution
    assert not entry.policy.shadow


@ENTRIES
def test_each_published_policy_says_with_what_it_was_compared(entry: Entry) -> None:
    """The file of the authors' code and its commit, or that only the paper was; the day; and what differs."""
    if not entry.source:
        assert not entry.compared
        return
    assert re.match(r"paper only|[\w-]+/[\w.-]+ .* at [0-9a-f]{10}\b", entry.compared)
    assert re.search(r", \d{4}-\d\d-\d\d: .+; differs: .+\.$", entry.compared)
    assert next(with_placebo(entry.policy, entry)).to_dict()["compared"] == entry.compared


@ENTRIES
def test_each_entry_compiles(entry: Entry) -> None:
    compiled = compile_policy(entry.policy, TARGET)
    program = compiled.program
    assert len(program.rules) == len(entry.policy.rules) + len(compiled.rank_rules)


def test_digests_are_distinct() -> None:
    assert len({entry.policy.digest for entry in LIBRARY.values()}) == len(LIBRARY)


def test_nowait_masks_its_words_in_the_reasoning_only() -> None:
    rule = compile_policy(LIBRARY["nowait"].policy, TARGET).program.rules[0]
    assert rule.action == Action.MASK
    read = LIBRARY["nowait"].policy.rules[0]
    assert read.when.region == "reasoning"
    assert read.do.suppress is not None
    assert read.do.suppress.words == NOWAIT_WORDS


def test_observe_changes_nothing() -> None:
    assert [rule.action for rule in compile_policy(LIBRARY["observe"].policy, TARGET).program.rules] == [Action.OBSERVE]
