"""Which bodies have too many parts, and that counting them takes no time."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.http.json_parts import MAX_DEPTH, MAX_PARTS, check_parts

TEXT = 'a "quoted: [{text}]" with \\ and \n: '


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"{}", 1),
        (b"[[], [], {}]", 4),
        (b'{"a": {"b": [1, 2, 3]}}', 5),
        (b'{"a": "[[[{{{:::"}', 2),
        (rb'{"a": "\"[[[", "b\\": [[]]}', 5),
        (b'"[:{"', 0),
        (b'["\xff:[", "\n{"]', 1),
    ],
)
def test_parts_are_objects_lists_and_fields_outside_of_texts(raw: bytes, parts: int) -> None:
    check_parts(raw, parts)
    if parts:
        with pytest.raises(InputError, match=f"has more than {parts - 1} objects") as raised:
            check_parts(raw, parts - 1)
        assert raised.value.field == "body"


@pytest.mark.parametrize("raw", [b'{"a": "[[[[', b'[["', b'"\\', b'{"a"x:"[[', b"::\"[['"])
def test_what_is_not_json_is_left_to_the_parser(raw: bytes) -> None:
    check_parts(raw, 2)


def test_long_texts_and_many_numbers_are_no_parts() -> None:
    texts = [TEXT * 1000] * 100
    check_parts(json.dumps({"messages": [{"role": "user", "content": text} for text in texts]}).encode())
    check_parts(json.dumps({"prompt": list(range(1_000_000)), "texts": ["x"] * 1_000_000}).encode())
    check_parts(json.dumps({"a": ["[", "{:"] * MAX_PARTS}).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"[]," * 5_000_000 + b"[]]",
        b'{"a":' * 3_000_000,
        b'"' + b"[" * 16_000_000,
        b'"\\' * 8_000_000,
        b'":",' * 4_000_000,
        b'":"' * 5_333_333,
        json.dumps({f"field {number}": number for number in range(800_000)}).encode(),
    ],
    ids=["lists", "depth", "open text", "escapes", "texts", "adjacent texts", "fields"],
)
def test_sixteen_megabytes_are_counted_faster_than_they_are_parsed(raw: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(InputError):
        check_parts(raw)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"]": ', b"}"), (b'["{[", ', b"]")])
def test_parts_inside_each_other_are_bounded(begin: bytes, end: bytes) -> None:
    check_parts(begin * MAX_DEPTH + b"1" + end * MAX_DEPTH)
    check_parts(b"[" + b",".join([begin + b"1" + end] * MAX_DEPTH * 3) + b"]")
    for raw in (begin * (MAX_DEPTH + 1) + b"1" + end * (MAX_DEPTH + 1), begin * (MAX_DEPTH + 1)):
        with pytest.raises(InputError, match=f"more than {MAX_DEPTH} objects and lists inside each other"):
            check_parts(raw)


def test_depth_is_counted_fast() -> None:
    started = time.monotonic()
    check_parts(b"[" + b",".join([b'{"a":"["}'] * (MAX_PARTS // 3)) + b"]")
    assert time.monotonic() - started < 5
