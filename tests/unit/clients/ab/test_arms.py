"""How arms are parsed from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.ab.arms import Arm, ArmError, arm, arms

CALM = '{"rules": [{"do": {"observe": {}}}]}'


@pytest.mark.parametrize(
    ("text", "name", "policy"),
    [
        ("none", "none", None),
        ("plain=none", "plain", None),
        ("nowait.placebo", "nowait.placebo", "nowait.placebo"),
        ("shorter=nowait", "shorter", "nowait"),
        ('x={"use": "nowait", "shadow": true}', "x", {"use": "nowait", "shadow": True}),
        (f"x = {CALM}", "x", {"rules": [{"do": {"observe": {}}}]}),
    ],
)
def test_one_arm(text: str, name: str, policy: Any) -> None:
    assert arm(text) == Arm(name, policy)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "calm.yaml").write_text("rules:\n  - do: {observe: {}}\n")
    assert arm(f"calm={tmp_path}/calm.yaml").policy == {"rules": [{"do": {"observe": {}}}]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a policy's name, or NAME=POLICY"),
        ("x=", "must be a policy's name, or NAME=POLICY"),
        ("=nowait", "must be a policy's name, or NAME=POLICY"),
        (CALM, "has no name; write NAME="),
        ("x={", "the arm 'x': Expecting property name"),
        ('x={"rules": 3}', "the arm 'x': policy.rules: must be a list"),
        ("x=nowhere.yaml", "the arm 'x': nowhere.yaml cannot be read: No such file"),
    ],
)
def test_an_invalid_arm_is_rejected(text: str, said: str) -> None:
    with pytest.raises(ArmError, match=said):
        arm(text)


def test_what_differs_between_arms() -> None:
    first, second = arms(["none", "nowait"], ["nowait=http://b/v1"], ["none=m"], ["nowait=secret=1"])
    assert (first.url, first.model, first.api_key) == (None, "m", None)
    assert (second.url, second.model, second.api_key) == ("http://b/v1", None, "secret=1")
    assert "secret" not in repr(second)


@pytest.mark.parametrize(
    ("texts", "urls", "said"),
    [
        ([], [], "there is no arm"),
        (["a=none", "a=nowait"], [], "two arms are called 'a'"),
        (
            ["none"],
            ["other=http://b"],
            r"--arm-url must be NAME=VALUE with an arm's name \(none\): 'other' is not an arm",
        ),
        (["none"], ["none"], "--arm-url must be NAME=VALUE .*: a name and a value are needed"),
    ],
)
def test_an_invalid_set_of_arms_is_rejected(texts: list[str], urls: list[str], said: str) -> None:
    with pytest.raises(ArmError, match=said):
        arms(texts, urls)


@pytest.mark.parametrize("text", ["nona=sk-secret", "sk-secret", "=sk-secret"])
def test_a_mistyped_key_is_not_shown(text: str) -> None:
    with pytest.raises(ArmError, match="--arm-api-key must be NAME=VALUE") as raised:
        arms(["none"], api_keys=[text])
    assert "sk-secret" not in str(raised.value)


def test_cautions_are_the_librarys() -> None:
    assert "27 to 51%" in arm("nowait").caution
    assert arm('x={"use": "nowait.placebo"}').caution == arm("nowait").caution
    assert arm(f"x={CALM}").caution == arm("none").caution == arm("unknown").caution == ""
