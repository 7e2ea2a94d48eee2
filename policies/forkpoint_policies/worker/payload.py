"""What the server tells the worker about one request, under one reserved key of vLLM's `extra_args`."""

from __future__ import annotations

from typing import Any

import msgspec

from forkpoint_policies.kernel.state_handover import Inherited

RESERVED_KEY = "forkpoint"


class PolicyPayload(msgspec.Struct, frozen=True):
    """Apply `program` to this request, and report under `handle` to the socket at `address` (empty: report nothing).

    `word_state` and `in_reasoning` tell where the prompt ends; `alternatives` is how many likeliest tokens to report. `seed` is
    where chance comes from, and `drawn` the tokens that stand in for those of a rule (by its index in the program). The prompt's
    last `begun` tokens are an answer that this request goes on with, and `inherited` is its state there. `given` are tokens to
    write whatever the model says: a text that is there already is measured so.
    """

    program: bytes
    key: str
    handle: int
    address: str
    word_state: int
    in_reasoning: bool
    alternatives: int = 0
    seed: int = 0
    drawn: dict[int, list[int]] = {}
    begun: int = 0
    inherited: Inherited | None = None
    given: list[int] = []

    def into(self, extra_args: dict[str, Any] | None) -> dict[str, Any]:
        """The request's extra arguments with this instruction in the place of whatever a client put there."""
        return {**(extra_args or {}), RESERVED_KEY: msgspec.msgpack.encode(self)}

    @staticmethod
    def of(extra_args: dict[str, Any] | None) -> PolicyPayload | None:
        data = (extra_args or {}).get(RESERVED_KEY)
        return msgspec.msgpack.decode(data, type=PolicyPayload) if isinstance(data, bytes) else None


def without_instruction(extra_args: dict[str, Any] | None) -> dict[str, Any] | None:
    """Extra arguments as a client may send them: a reserved key of theirs could aim our sockets, so it is dropped."""
    if not extra_args or RESERVED_KEY not in extra_args:
        return extra_args
    return {key: value for key, value in extra_args.items() if key != RESERVED_KEY} or None
