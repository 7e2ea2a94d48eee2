"""What a request takes with it to the worker."""

from __future__ import annotations

import pytest

from forkpoint_server.engine import payload
from forkpoint_server.engine.payload import reserve_programs
from forkpoint_server.vllm_seam import VLLMValidationError
from tests.unit.server.requests.recorded import context_of


def test_the_choices_of_all_prompts_carry_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of({"suppress": {"words": ["wait"]}})
    monkeypatch.setattr(payload, "MAX_PROGRAM_BYTES", 10 * len(context.compiled.packed))
    reserve_programs(context, 6)
    reserve_programs(context, 4)
    with pytest.raises(VLLMValidationError, match="request fewer choices") as refused:
        reserve_programs(context, 1)
    assert refused.value.parameter == "n"
