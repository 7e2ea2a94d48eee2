"""Which policy a request gets, and its label in metrics."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.catalog import with_placebo
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.resolve import ResolvedRequest, resolve
from forkpoint_server.requests.options import RequestOptions

OWN = parse_policy({"name": "own", "rules": [{"do": {"temperature": 0.5}}]})
REGISTRY = Registry({"own": OWN})
INLINE = {"rules": [{"do": {"temperature": 0.5}}]}


def resolved(policy: Any = None, default: str | None = None, **more: Any) -> ResolvedRequest:
    body = {"model": "m", **({} if policy is None else {"policy": policy}), **more}
    return resolve(body, None, ("m",), REGISTRY, default)


@pytest.mark.parametrize(
    ("policy", "label"),
    [
        ("nowait", "nowait"),
        ("nowait.placebo", "nowait.placebo"),
        ({"use": "switch-penalty", "with": {"alpha": 5}}, "switch-penalty"),
        ({"use": "nowait", "shadow": True}, "nowait (shadow)"),
        (INLINE, "inline"),
        ({**INLINE, "name": "own"}, "inline"),
        ({**INLINE, "name": "nowait", "shadow": True}, "inline (shadow)"),
    ],
)
def test_metrics_label_a_policy_with_the_requested_name(policy: Any, label: str) -> None:
    """An inline policy is counted as `inline` regardless of its name; a shadow policy is counted separately."""
    labeled = resolved(policy).policy
    assert labeled is not None
    assert labeled.label == label


def test_the_default_is_for_requests_that_name_none() -> None:
    default = resolved(default="own")
    assert (default.policy, default.by_default) == ((OWN, "own"), True)
    named = resolved("nowait", default="own")
    assert named.policy is not None
    assert (named.policy.label, named.by_default) == ("nowait", False)
    assert resolved().policy is None
    assert (resolved().by_request, default.by_request, named.by_request) == (False, False, True)


def test_none_disables_every_policy() -> None:
    for one in (resolved("none", default="own"), resolve({"model": "m:none"}, "none", ("m",), REGISTRY, "own")):
        assert one.policy is None
        assert not one.by_default
        assert one.by_request  # so it is in no experiment
        assert one.body == {"model": "m"}
    with pytest.raises(InputError, match=r"says 'nowait'.*says 'none'"):
        resolve({"model": "m", "policy": "nowait"}, "none", ("m",), REGISTRY, None)


def test_stored_policies_come_and_go() -> None:
    """A stored policy cannot replace one that the server was started with."""
    registry = Registry({"own": OWN})
    mine = parse_policy({"name": "mine", "rules": [{"when": {"entropy_above": 1.0}, "do": {"temperature": 0.5}}]})
    registry.replace_stored([*with_placebo(mine), *with_placebo(mine.model_copy(update={"name": "own"}))])
    assert registry.get("mine").policy == mine
    assert "mine.placebo" in registry
    assert registry.get("own").policy == OWN
    assert (registry.is_fixed("own"), registry.is_fixed("nowait"), registry.is_fixed("mine")) == (True, True, False)
    registry.replace_stored([])
    assert "mine" not in registry


def test_options_are_removed_from_the_body() -> None:
    """vLLM would ignore or refuse fields that it does not know."""
    one = resolved(forks=True, policy_logprobs=False, stop_in="answer", seed=1)
    assert one.options == RequestOptions(forks=True, stop_in="answer")
    assert (one.body, one.changed) == ({"model": "m", "seed": 1}, True)
    assert not resolved(seed=1).changed
