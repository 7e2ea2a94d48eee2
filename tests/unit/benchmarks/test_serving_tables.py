"""The arguments with which the benchmarks serve a model of Qwen3-0.6B's shape."""

from __future__ import annotations

import pytest

from benchmarks.serving_tables import QWEN_TOKENS, qwen_arguments

PROMPT_TOKENS = 24 * 3  # 24 words, each of at most two tokens and a space
TOKEN_BYTES = 2 * 28 * 8 * 128 * 4  # keys and values, in 28 layers, of 8 heads of 128, in float32


@pytest.mark.parametrize("at_once", [1, 32, 33, 256])
def test_the_cache_holds_all_requests_at_once(at_once: int) -> None:
    arguments = qwen_arguments(at_once)
    size = arguments[arguments.index("--kv-cache-memory-bytes") + 1]
    assert int(size.removesuffix("G")) * 2**30 >= at_once * (PROMPT_TOKENS + QWEN_TOKENS) * TOKEN_BYTES
