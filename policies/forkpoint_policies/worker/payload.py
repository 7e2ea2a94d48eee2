"""What the server sends to the worker with one request, under one reserved key of vLLM's `extra_args`."""

from __future__ import annotations

from typing import Any

import msgspec

from forkpoint_policies.kernel.sampling_limits import SamplingLimits
from forkpoint_policies.kernel.state_handover import Inherited

RESERVED_KEY = "forkpoint"


class PolicyPayload(msgspec.Struct, frozen=True):
    """Apply `program` to this request, and report under `handle` to the socket at `address` (empty: report nothing).

    `word_state` and `region` are the states at the end of the prompt; `alternatives` is how many likeliest tokens
    to report. `seed` is the seed of all chance; `sampled` are the tokens that replace a rule's own (by its index in the
    program). The last `num_shared_tokens` tokens of the prompt are the answer that this request continues, and
    `inherited` is its state there. `forced_tokens` are written regardless of the logits: an existing text is measured
    this way. `limits` are those that the request samples with. `scored`: the log probability of each token in the
    distribution that it is sampled from is reported. `max_states`: the hidden states at so many positions where a rule
    fires are kept in the worker: those of `kept_states`, by the names of their tensors. `sums_above`: nobody reads its
    records one by one, so they are summed, and this is the fork threshold, in nats.
    """

    program: bytes
    key: str
    handle: int
    address: str
    word_state: int
    region: int
    alternatives: int = 0
    seed: int = 0
    sampled: dict[int, list[int]] = {}
    num_shared_tokens: int = 0
    inherited: Inherited | None = None
    forced_tokens: list[int] = []
    limits: SamplingLimits = SamplingLimits()
    scored: bool = False
    max_states: int = 0
    kept_states: list[str] = []
    sums_above: float | None = None

    def into(self, extra_args: dict[str, Any] | None) -> dict[str, Any]:
        """The request's extra arguments with this payload, which replaces anything that a client sent under the key."""
        return {**(extra_args or {}), RESERVED_KEY: msgspec.msgpack.encode(self)}

    @staticmethod
    def of(extra_args: dict[str, Any] | None) -> PolicyPayload | None:
        """The payload of a request, if it has one."""
        data = (extra_args or {}).get(RESERVED_KEY)
        return msgspec.msgpack.decode(data, type=PolicyPayload) if isinstance(data, bytes) else None


def without_payload(extra_args: dict[str, Any] | None) -> dict[str, Any] | None:
    """A client's extra arguments without the reserved key, with which a client could choose the sockets that we connect
    to."""
    if not extra_args or RESERVED_KEY not in extra_args:
        return extra_args
    return {key: value for key, value in extra_args.items() if key != RESERVED_KEY} or None
