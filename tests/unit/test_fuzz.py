"""What the fuzzer of valid requests sends."""

from __future__ import annotations

from collections import Counter

from forkpoint_policies.spec import parse_policy
from fuzz.valid_requests import valid_request


def test_random_requests_are_valid_and_cover_the_language() -> None:
    bodies = [valid_request(number).body for number in range(2000)]
    policies = [body["policy"] for body in bodies if isinstance(body.get("policy"), dict)]
    rules = [rule for policy in policies for rule in parse_policy(policy).rules]
    actions = Counter(rule.original.do.action for rule in rules)
    assert {"branch", "probe", "sample", "resume", "suppress", "force", "end_reasoning", "stop"} <= set(actions)
    assert min(actions.values()) > 5
    for field in (
        "min_tokens", "max_tokens", "n", "stop", "logprobs", "presence_penalty", "structured_outputs", "ignore_eos",
        "thinking_token_budget", "seed", "stream",
    ):  # fmt: skip
        assert sum(field in body for body in bodies) > 50, field
    # together they may leave no token, which the server refuses
    assert any({"structured_outputs", "allowed_token_ids"} <= set(body) for body in bodies)
    assert valid_request(7) == valid_request(7)
