"""Users' YAML files: what is read, by YAML 1.2's rules, and errors of one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from forkpoint_policies.spec import parse_policy
from forkpoint_policies.spec.yaml_file import YamlError, parse_yaml, read_yaml


def test_a_value(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: try\narms: [{weight: 0.5}]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"name": "try", "arms": [{"weight": 0.5}]}


NUMBERS = {
    "1e-6": 1e-6,
    "1E6": 1e6,
    "-1e+6": -1e6,
    "1.0e6": 1e6,
    ".5e-3": 5e-4,
    "5.": 5.0,
    "+.5": 0.5,
    "1_000": 1000,
    "1_000.5": 1000.5,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "-7": -7,
    "-.inf": -math.inf,
}


@pytest.mark.parametrize(("text", "number"), NUMBERS.items(), ids=NUMBERS)
def test_a_number(text: str, number: float) -> None:
    for written in (text, f"[{text}, x]"):
        value = parse_yaml(written)
        found = value[0] if isinstance(value, list) else value
        assert (found, type(found)) == (number, type(number))


TEXTS = [
    "no",
    "Yes",
    "on",
    "OFF",
    "y",
    "1:30",
    "1.2.3",
    "2026-11-27",
    "2001-99-99",
    "1e",
    "e5",
    "inf",
    "nan",
    "_1",
    "=",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text(text: str) -> None:
    assert parse_yaml(text) == text
    assert parse_yaml(f"words: [{text}, wait]") == {"words": [text, "wait"]}


@pytest.mark.parametrize(("text", "value"), [("", None), ("~", None), ("null", None), ("True", True), ("false", False)])
def test_a_value_with_a_name(text: str, value: object) -> None:
    assert parse_yaml(text) is value


def test_quotes_keep_a_text() -> None:
    assert parse_yaml("['1e-6', \"null\", '']") == ["1e-6", "null", ""]


def test_an_anchor_is_merged() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


@pytest.mark.parametrize("value", [1e-07, 1e22, -2.5e-10, [1, "1e-6", None, True, {"a": ""}]])
def test_json_is_read_as_json(value: Any) -> None:
    assert parse_yaml(json.dumps(value)) == json.loads(json.dumps(value))


def test_a_policy_with_a_small_number() -> None:
    written = "name: small\nrules:\n- when: {probability: 1e-6}\n  do: {suppress: {words: [no]}}\n"
    rule = {"when": {"probability": 0.000001}, "do": {"suppress": {"words": ["no"]}}}
    assert parse_policy(parse_yaml(written)) == parse_policy({"name": "small", "rules": [rule]})


INVALID = {
    "not YAML": b"rules: [",
    "not text": b"\xff\xfe\xff",
    "a number that is none": b"!!int no",
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
