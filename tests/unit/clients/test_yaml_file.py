"""Users' YAML files: what is read, and errors of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkpoint_clients.yaml_file import YamlError, read_yaml


def test_a_value(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: try\narms: [{weight: 0.5}]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"name": "try", "arms": [{"weight": 0.5}]}


INVALID = {
    "not YAML": b"rules: [",
    "not text": b"\xff\xfe\xff",
    "an invalid date": b"2001-99-99: 1",
    "too deep": b"[" * 5_000,
    "code": b"!!python/object/apply:os.system [echo]",
}


@pytest.mark.parametrize("content", INVALID.values(), ids=INVALID.keys())
def test_errors_name_the_file_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(YamlError) as raised:
        read_yaml(file)
    assert str(raised.value).startswith(f"{file} cannot be read as YAML: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=r"nowhere.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")
