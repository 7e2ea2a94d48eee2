"""The payload under the reserved key, which no client can write."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.worker.payload import RESERVED_KEY, PolicyPayload, without_payload

PAYLOAD = PolicyPayload(b"program\x00\xff", "key", 2**31 - 1, "ipc:///tmp/x", 5, region=0, alternatives=3)


@pytest.mark.parametrize("extra", [None, {}, {"kv": 1}])
def test_a_payload_arrives_as_it_was_sent(extra: dict[str, Any] | None) -> None:
    sent = PAYLOAD.into(extra)
    assert PolicyPayload.of(sent) == PAYLOAD
    assert {key: value for key, value in sent.items() if key != RESERVED_KEY} == (extra or {})
    assert isinstance(sent[RESERVED_KEY], bytes), "vLLM's own encoding carries bytes as they are"


def test_a_payload_replaces_a_clients_value_under_its_key() -> None:
    theirs = {RESERVED_KEY: {"address": "tcp://example.org:1"}, "other": 1}
    assert PolicyPayload.of(PAYLOAD.into(theirs)) == PAYLOAD
    assert theirs[RESERVED_KEY] == {"address": "tcp://example.org:1"}, "the client's own arguments are not changed"


@pytest.mark.parametrize(
    "extra", [None, {}, {"kv": 1}, {RESERVED_KEY: None}, {RESERVED_KEY: {"handle": 1}}, {RESERVED_KEY: "text"}]
)
def test_a_request_without_a_payload_has_none(extra: dict[str, Any] | None) -> None:
    """JSON has no bytes, so no value that a client can write under the key is a payload."""
    assert PolicyPayload.of(extra) is None


@pytest.mark.parametrize(
    ("extra", "left"),
    [
        (None, None), ({}, {}), ({"a": 1}, {"a": 1}), ({RESERVED_KEY: b"x"}, None),
        ({RESERVED_KEY: {"a": 2}, "a": 1}, {"a": 1}), ({RESERVED_KEY: None, "a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_the_reserved_key_is_dropped(extra: dict[str, Any] | None, left: dict[str, Any] | None) -> None:
    assert without_payload(extra) == left
