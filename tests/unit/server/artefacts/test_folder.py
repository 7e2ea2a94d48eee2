"""`--vectors DIR`: every file is read at the start, and the file at fault is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkpoint_policies.hidden.artefact import MAX_BYTES
from forkpoint_policies.spec import InputError
from forkpoint_server.artefacts.folder import read_folder
from forkpoint_server.serve_arguments import check_early
from tests.unit.policies.hidden.artefact_files import VECTOR, readout


def test_a_name_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "calm.safetensors").write_bytes(VECTOR.raw)
    (tmp_path / "correct.safetensors").write_bytes(readout().raw)
    (tmp_path / "notes.txt").write_text("not one of them")
    found = read_folder(tmp_path)
    assert {name: one.kind for name, one in found.items()} == {"calm": "vector", "correct": "readout"}


def test_what_is_wrong_is_said_before_vllm_is_imported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--vectors: .* is not a folder; give one with a \.safetensors file for each"):
        check_early(["--vectors", str(tmp_path / "none"), "--port", "0"])
    wrong = tmp_path / "calm.safetensors"
    wrong.write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"calm\.safetensors: is not a safetensors file"):
        check_early(["--vectors", str(tmp_path), "--port", "0"])
    wrong.unlink()
    (tmp_path / "two words.safetensors").write_bytes(VECTOR.raw)
    with pytest.raises(InputError, match="'two words' is not a name"):
        read_folder(tmp_path)


def test_of_a_large_file_only_the_start_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(InputError, match=r"large\.safetensors: has 16\.0 MiB"):
        read_folder(tmp_path)
