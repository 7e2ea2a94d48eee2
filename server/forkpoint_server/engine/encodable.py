"""Sampling parameters that cannot be sent to the engine: JSON has numbers and texts that vLLM's encoding has not."""

from __future__ import annotations

from typing import Any

import msgspec

from forkpoint_server.vllm_seam import SamplingParams, VLLMValidationError


def check_encodable(params: SamplingParams) -> None:
    """Raise VLLMValidationError (400) for a number beyond 64 bits, and for half of a character; vLLM answers 500."""
    if _problem(params) is None:
        return
    for name in params.__struct_fields__:
        if (problem := _problem(getattr(params, name))) is not None:
            raise VLLMValidationError(f"{name}: {problem}", parameter=name)


def _problem(value: Any) -> str | None:
    try:
        msgspec.msgpack.encode(value, enc_hook=str)  # vLLM's own types are encoded by it
    except OverflowError:
        return "has a number that does not fit into 64 bits"
    except UnicodeEncodeError:
        return "has half of a character (an unpaired surrogate, \\ud800 to \\udfff)"
    return None
