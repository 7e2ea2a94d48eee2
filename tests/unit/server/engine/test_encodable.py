"""Which sampling parameters the engine cannot be sent, and that the error names the field."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_server.engine.encodable import check_encodable
from forkpoint_server.vllm_seam import RequestOutputKind, SamplingParams, StructuredOutputsParams, VLLMValidationError


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("top_k", 10**30, "64 bits"),
        ("top_k", 1 << 64, "64 bits"),
        ("thinking_token_budget", 10**30, "64 bits"),
        ("stop", ["fine", "\ud800"], "half of a character"),
        ("extra_args", {"\udfff": 1}, "half of a character"),
    ],
)
def test_what_the_engine_cannot_read_is_named(field: str, value: Any, said: str) -> None:
    with pytest.raises(VLLMValidationError, match=f"{field}: .*{said}") as raised:
        check_encodable(SamplingParams(**{field: value}))
    assert raised.value.parameter == field


def test_what_it_can_read_passes() -> None:
    check_encodable(
        SamplingParams(
            seed=-(1 << 63),
            top_k=1 << 40,
            stop=["é\U0001f305\0"],
            logit_bias={3: -1.5},
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=StructuredOutputsParams(json={"type": "string"}),
            extra_args={"payload": b"\xff", "a": (1,)},
        )
    )
