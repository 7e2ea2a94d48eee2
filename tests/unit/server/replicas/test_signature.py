"""The signature of what one server asks another."""

from __future__ import annotations

import time

import pytest

from forkpoint_server.replicas.signature import MAX_AGE_SECONDS, is_signed, sign

KEY, PATH, QUERY = "k" * 64, "/replica/trace", "id=x&stream=false"


def test_who_has_the_key_can_sign() -> None:
    assert is_signed(sign(KEY, PATH, QUERY), KEY, PATH, QUERY)


@pytest.mark.parametrize(
    "asked", [("j" * 64, PATH, QUERY), (KEY, "/replica/rows", QUERY), (KEY, PATH, "id=y&stream=false"), (KEY, PATH, "")]
)
def test_a_signature_is_good_for_one_request_to_one_server(asked: tuple[str, str, str]) -> None:
    assert not is_signed(sign(KEY, PATH, QUERY), *asked)


def test_a_signature_ages() -> None:
    now = time.time()
    assert is_signed(sign(KEY, PATH, QUERY, now - MAX_AGE_SECONDS + 10), KEY, PATH, QUERY)
    assert not is_signed(sign(KEY, PATH, QUERY, now - MAX_AGE_SECONDS - 10), KEY, PATH, QUERY)
    assert not is_signed(sign(KEY, PATH, QUERY, now + MAX_AGE_SECONDS + 10), KEY, PATH, QUERY)


@pytest.mark.parametrize("value", [None, "", ":", "1", "1:", "-1:x", "²:x", "9" * 40 + ":x", "now:\xff", "now:"])
def test_nonsense_is_no_signature(value: str | None) -> None:
    sent = None if value is None else value.replace("now", str(int(time.time())))
    assert not is_signed(sent, KEY, PATH, QUERY)
