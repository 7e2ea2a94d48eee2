"""Policy files: an invalid one raises an error that names the file. And which policies are registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.policies.registry import Registry, read_policies, read_policy

WRONG = {
    "not YAML": (b"rules: [", "cannot be read as YAML"),
    "not text": (b"\xff\xfe\xff", "cannot be read as YAML"),
    "a number that is none": (b"!!int no", "cannot be read as YAML"),
    "too deep": (b"[" * 100_000, "cannot be read as YAML"),
    "code": (b"!!python/object/apply:os.system [echo]", "cannot be read as YAML"),
    "aliases that expand": (
        b"n0: &n0 [x, x]\n" + b"".join(b"n%d: &n%d [*n%d, *n%d]\n" % (at, at, at - 1, at - 1) for at in range(1, 40)),
        "nested too deeply|too large",
    ),
    "a list": (b"- 1", "must be an object"),
    "nothing": (b"", "must be an object"),
}


@pytest.mark.parametrize(("written", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file(written: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_bytes(written)
    with pytest.raises(InputError, match=said) as caught:
        read_policy(file)
    assert str(file) in caught.value.field


@pytest.mark.parametrize("name", ["nowait", "inline", "../x", "a.placebo"])
def test_a_name_that_a_file_may_not_take(name: str, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"name: {name}\nrules:\n  - do: {{temperature: 1.2}}\n")
    with pytest.raises(InputError, match=r"taken|names that end|must be lower-case"):
        read_policies(tmp_path)


def test_only_a_registered_policy_itself_is_held() -> None:
    """What merely has a registered name, or other parameters, is one of any number that clients may send."""
    registry = Registry({"own": parse_policy({"name": "own", "rules": [{"do": {"temperature": 1.2}}]})})
    for named in registry:
        assert registry.holds(named.policy)
        assert not registry.holds(named.policy.model_copy())
    assert not registry.holds(registry.get("alpha-one").use({"alpha": 2.0}))
