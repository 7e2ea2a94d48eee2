"""The journal of a run: nothing that was acknowledged is lost, at whichever byte a crash cuts it off."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.journal import JOURNAL_FILE, Journal, JournalError, Unit, read

CONFIGURATION = {
    "forkpoint ab": 1,
    "arms": [{"name": "none"}, {"name": "nowait"}],
    "sampling": {"max_tokens": 9, "extra": {}},
}
UNITS = [Unit(question, sample, "none") for question, sample in (("a", 0), ("ü", 0), ("ü", 1))]


def answer(text: str) -> Answer:
    return Answer((Choice(text, "é\u2028", "stop"),), 3, 2, 0.25, {"interventions": {}}, "id-1")


def write(folder: Path) -> Path:
    with Journal(folder, CONFIGURATION) as journal:
        for number, unit in enumerate(UNITS):
            journal.write(unit, answer(str(number)))
    return folder / JOURNAL_FILE


def test_written_answers_are_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder")
    with Journal(path.parent, CONFIGURATION) as journal:
        assert journal.answers == {unit: answer(str(number)) for number, unit in enumerate(UNITS)}
    assert read(path).configurations == [CONFIGURATION]


def test_cut_off_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All complete lines are read, and the run can continue.

    (The test truncates the file itself; it does not cover flushing to disk.)
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path = write(tmp_path)
    raw = path.read_bytes()
    ends = [index for index, byte in enumerate(raw) if byte == ord("\n")]
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        whole = sum(end < length for end in ends)
        with Journal(tmp_path, CONFIGURATION) as journal:
            assert list(journal.answers) == UNITS[: max(0, whole - 1)]
            journal.write(Unit("new", 0, "none"), answer("x"))
        assert list(read(path)[1]) == [*UNITS[: max(0, whole - 1)], Unit("new", 0, "none")]


def test_an_unpaired_surrogate_is_stored(tmp_path: Path) -> None:
    """A server can cut a text in the middle of a pair of surrogates."""
    with Journal(tmp_path, CONFIGURATION) as journal:
        journal.write(UNITS[0], answer("\ud83d"))
    assert read(tmp_path / JOURNAL_FILE)[1] == {UNITS[0]: answer("\ud83d")}


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_, room = os.write, 100

    def until_full(file: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write_(file, data[:room])
        room -= taken
        return taken

    with Journal(tmp_path, CONFIGURATION) as journal:
        journal.write(UNITS[0], answer("0"))
        monkeypatch.setattr(os, "write", until_full)
        with pytest.raises(OSError, match="No space left"):
            journal.write(UNITS[1], answer("1"))
        room = 10_000
        journal.write(UNITS[2], answer("2"))
        assert list(journal.answers) == [UNITS[0], UNITS[2]]
    assert read(tmp_path / JOURNAL_FILE)[1] == {UNITS[0]: answer("0"), UNITS[2]: answer("2")}


def test_a_last_line_that_only_partly_reached_the_disk(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"question": "b", "sa\0\0\0\0\n')
    with Journal(tmp_path, CONFIGURATION) as journal:
        assert list(journal.answers) == UNITS
    assert path.read_bytes() == whole


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b"{}", *lines[2:]]))
    with pytest.raises(JournalError, match=r"journal.jsonl, line 3: is not an answer: KeyError: 'question'"):
        Journal(tmp_path, CONFIGURATION)


@pytest.mark.parametrize("content", ["hello", "hello\n", "[1]\n", '{"forkpoint ab": 2'])
def test_another_file_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / JOURNAL_FILE).write_text(content)
    with pytest.raises(JournalError, match="is not a journal of forkpoint ab"):
        Journal(tmp_path, CONFIGURATION)
    assert (tmp_path / JOURNAL_FILE).read_text() == content


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    other = {**CONFIGURATION, "arms": [{"name": "none"}, {"name": "calm"}], "sampling": {"max_tokens": 10, "extra": {}}}
    with pytest.raises(
        JournalError, match=r'arms\[1\].name was "nowait", is "calm"; sampling.max_tokens was 9, is 10\. Give'
    ):
        Journal(tmp_path, other)
    assert path.read_bytes() == before


def test_without_answers_there_is_nothing_to_mix(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIGURATION):
        pass
    with Journal(tmp_path, {"forkpoint ab": 1}):
        pass
    assert read(tmp_path / JOURNAL_FILE).configurations == [{"forkpoint ab": 1}]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIGURATION), pytest.raises(JournalError, match="in use by another run"):
        Journal(tmp_path, CONFIGURATION)
