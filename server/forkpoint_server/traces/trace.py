"""One choice's record: its bytes as they arrive, and what is read of them while it runs."""

from __future__ import annotations

import asyncio
import time
import weakref
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.regions import Region, RegionReader, Regions
from forkpoint_policies.worker.record_sums import RecordSums, add_up, sum_records
from forkpoint_policies.worker.records import (
    DRAFT,
    HEAD,
    RULES_SHIFT,
    RecordRows,
)

from .hidden_signals import HiddenSignals
from .likeliest import Alternatives
from .logprobs import PolicyLogprobs
from .profile import Profile, read_profile
from .record_log import RecordLog
from .replaced_tokens import ReplacedTokens

MIN_EFFECT = 0.01
"""From this effect of a policy at a position, the likeliest tokens without it are stored: one in a hundred differs."""

MANY_BYTES = 1_000
"""So many bytes of records are looked at together rather than one by one."""

TRACE_BYTES, TOKEN_BYTES, CHUNK_BYTES, ALTERNATIVES_BYTES, ALTERNATIVE_BYTES = 1_500, 43, 200, 160, 80
"""What CPython takes for a trace without its contents, for a token, for records of one width without the records, and
for the alternatives of a position without and for each of them."""


@dataclass(frozen=True)
class SummedRange:
    """The sums of `count` records, of positions from `first` to before `end`, which the worker did not send."""

    first: int
    end: int
    count: int
    sums: RecordSums  # of one choice


@dataclass(slots=True)
class Trace:
    """One choice: its tokens as the engine returned them, and the record of each position as the worker sent it.

    A branch's first own token stands at `first_position` of the whole answer. Alternatives are stored where the rule of
    the tree fired, above the fork `threshold` (nats) and where the policy had an effect, or everywhere
    (`stores_all_alternatives`).

    Under speculative decoding a record may describe a position after draft tokens; it `is_valid` once the choice has
    these tokens. Positions up to `last_final_position` will not be reported again.
    """

    handle: int
    choice: int
    tokens: list[int] = field(default_factory=list)
    first_position: int = 0
    threshold: float = 0.0
    max_alternatives: int = 0  # to store; others in the batch may have requested more
    stores_all_alternatives: bool = False
    prompt: Sequence[int] = ()  # shared by the choices of one prompt
    ended: bool = False  # the engine ended it, rather than a client that left
    last_final_position: int = -1
    tree_rule_index: int | None = None  # in the program, of the rule that branches
    forks: dict[int, float] = field(default_factory=dict)  # position -> nats, where that rule fired
    new_forks: list[int] = field(default_factory=list)  # of these, the ones that the tree's runner has not read
    log: RecordLog | None = None  # where its records arrive; None after its end
    on_records: Callable[[], None] | None = None  # called when records arrived; set by `listen`
    confidence: dict[int, float] = field(default_factory=dict)  # position -> nats
    margin: dict[int, float] = field(default_factory=dict)  # position -> lead of the likeliest token, a probability
    certainty: dict[int, float] = field(default_factory=dict)  # position -> nats, the self-certainty
    logprobs: PolicyLogprobs | None = None  # for requests with `policy_logprobs`
    is_summed: bool = False  # by the worker, so that not all of its records arrive
    replaced: ReplacedTokens | None = None  # of a shadow policy whose rules replace tokens
    hidden: HiddenSignals = field(default_factory=HiddenSignals)
    raw_logprobs: array[float] = field(default_factory=lambda: array("d"))  # nats, before any change, if known
    _reader: RegionReader = field(default_factory=lambda: RegionReader(Regions(), Region.REASONING))
    _start: int = Region.REASONING
    _counter: RegionReader | None = None  # from where vLLM starts to count reasoning tokens, if that is elsewhere
    _chunks: list[tuple[int, int, bytearray]] = field(
        default_factory=list
    )  # columns, rules, rows: a batch's policies set the width
    _alternatives: dict[int, Alternatives] = field(default_factory=dict)
    _drafts: dict[int, tuple[int, ...]] = field(
        default_factory=dict
    )  # before a position, where they may have been rejected
    _last_drafts: tuple[int, ...] = ()  # those before the position that was added last
    _arrived: asyncio.Event | None = None
    _profile: tuple[tuple[int, int], Callable[[], Profile | None]] | None = None
    _summed: list[SummedRange] = field(default_factory=list)
    _sums: tuple[tuple[float, tuple[int, int], int], RecordSums] | None = None
    _finished: bool = False

    @property
    def num_bytes(self) -> int:
        """The memory that it takes after its end, as CPython's objects do, rounded up; without its prompt."""
        return (
            TRACE_BYTES
            + TOKEN_BYTES * len(self.tokens)
            + sum(CHUNK_BYTES + len(rows) + len(rows) // 8 for _, _, rows in self._chunks)  # it has room to grow
            + CHUNK_BYTES * len(self._drafts)
            + sum(ALTERNATIVES_BYTES + ALTERNATIVE_BYTES * len(one.tokens) for one in self._alternatives.values())
            + self.raw_logprobs.itemsize * len(self.raw_logprobs) * 9 // 8
            + self.hidden.num_bytes
            + (0 if self.logprobs is None else self.logprobs.num_bytes)
        )

    def start_in(self, regions: Regions, region: int, counted: int | None = None) -> None:
        """Say in which state of the served model's regions the choice starts, before any token is there; `counted` is
        the state from which vLLM counts its reasoning tokens."""
        self._reader, self._start = RegionReader(regions, region), region
        self._counter = None if counted in (None, region) else RegionReader(regions, counted or 0)

    @property
    def regions(self) -> RegionReader:
        """The regions of the tokens so far."""
        self._reader.read(self.tokens)
        return self._reader

    def regions_of(self, tokens: Sequence[int]) -> RegionReader:
        """The regions of other tokens that start where this choice does."""
        return self._reader.regions.read(tokens, self._start)

    @property
    def num_reasoning_tokens(self) -> int:
        """The reasoning tokens so far, as vLLM counts them: without markers."""
        if self._counter is None:
            return self.regions.num_reasoning_tokens
        self._counter.read(self.tokens)
        return self._counter.num_reasoning_tokens

    def listen(self, on_records: Callable[[], None]) -> None:
        """Call `on_records` whenever records have been added."""
        self.on_records = on_records
        if self.log is not None:
            self.log.listening.add(self.handle)

    def add(self, columns: int, rules: int, rows: bytes) -> None:
        """Store consecutive records. A position may come again, as with a prompt computed in chunks; the last record
        counts."""
        if not self._chunks or self._chunks[-1][:2] != (columns, rules):
            self._chunks.append((columns, rules, bytearray()))
        self._chunks[-1][2].extend(rows)
        if len(rows) > MANY_BYTES and self.tree_rule_index is None and not self._drafts:
            heads = np.frombuffer(rows, np.int32).reshape(-1, columns)
            if not (heads[:, 3] & DRAFT).any():
                self._last_drafts = ()
                self.last_final_position = max(self.last_final_position, int(heads[:, 1].max()))
                rows = b""
        for _, position, last_token, flags, entropy in _heads(columns).iter_unpack(rows):
            self._add_head(position, last_token, flags, entropy)
        if self._arrived is not None:
            self._arrived.set()

    def _add_head(self, position: int, last_token: int, flags: int, entropy: float) -> None:
        if flags & DRAFT:  # the rows of a step are consecutive
            self._last_drafts = self._drafts[position] = (*self._last_drafts, last_token)
        else:
            self._last_drafts = ()
            self._drafts.pop(position, None)
            self.last_final_position = max(self.last_final_position, position)
        if self.tree_rule_index is not None:
            if flags >> (RULES_SHIFT + self.tree_rule_index) & 1:
                self.forks[position] = entropy
                self.new_forks.append(position)
            else:
                self.forks.pop(position, None)

    def add_sums(self, summed: SummedRange) -> None:
        """Store the sums of records that do not come one by one."""
        self._summed.append(summed)
        if self._arrived is not None:
            self._arrived.set()

    def read(self) -> None:
        """Add the records that have arrived."""
        if self.log is not None:
            self.log.read(self.handle)

    def add_alternatives(
        self, position: int, entropy: float, tokens: NDArray[np.int32], signed: NDArray[np.float32], effect: float = 0.0
    ) -> None:
        """Store the likeliest tokens, [k], of a position whose record was added; `effect` is a rule's largest there."""
        if self.stores_all_alternatives or position in self.forks or entropy > self.threshold or effect >= MIN_EFFECT:
            tokens, signed = tokens[: self.max_alternatives], signed[: self.max_alternatives]
            self._alternatives[position] = Alternatives(tuple(tokens.tolist()), tuple(signed.tolist()))
        else:
            self._alternatives.pop(position, None)

    def add_confidence(self, position: int, confidence: float, margin: float, certainty: float) -> None:
        self.confidence[position], self.margin[position], self.certainty[position] = confidence, margin, certainty

    def add_logprob(self, position: int, token: int, nats: float) -> None:
        """Store a token's log probability in the distribution that was sampled from."""
        if self.logprobs is not None:
            self.logprobs.add(position, token, nats)
            self.logprobs.resolve(self.tokens, self.first_position)
            if self._arrived is not None:
                self._arrived.set()

    def add_distribution(self, position: int, nats: NDArray[np.float32]) -> None:
        """Store the distribution, [vocabulary] log probabilities, that the token at a position is sampled from."""
        if self.logprobs is not None:
            self.logprobs.add_distribution(position, nats)
            self.logprobs.resolve(self.tokens, self.first_position)
            if self._arrived is not None:
                self._arrived.set()

    def policy_logprobs(self) -> list[float | None]:
        """Of each token; None where it was lost, or was not requested."""
        if self.logprobs is None:
            return [None] * len(self.tokens)
        return self.logprobs.of_all(self.tokens, self.first_position)

    def alternatives(self, position: int) -> Alternatives | None:
        return self._alternatives.get(position)

    @property
    def num_missing(self) -> int:
        """How many of the choice's tokens have no valid record yet."""
        profile, ranges = self.profile(), self._ranges()
        single = len(profile.position) if not ranges else int(_outside(ranges, profile.position).sum())
        return len(self.tokens) - single - sum(one.count for one in ranges)

    def sums(self, fork_threshold: float) -> RecordSums:
        """What is counted of the records of the committed tokens, summed by the worker or not: of one choice. The
        threshold, in nats, is the one by which the worker sums."""
        profile, ranges = self.profile(), self._ranges()
        known = (fork_threshold, self._amount(), len(ranges))
        if self._sums is not None and self._sums[0] == known:
            return self._sums[1]
        own = _outside(ranges, profile.position) if ranges else slice(None)
        sums = sum_records(
            np.zeros(len(profile.position[own]), np.intp), 1, fork_threshold, profile.entropy[own],
            (profile.left_alone[own], profile.forced[own], profile.refused[own]),
            profile.fired[own], profile.effect[own],
        )  # fmt: skip
        if ranges:
            sums = add_up([*(one.sums for one in ranges), sums])
        if not self._finished:
            self._sums = known, sums
        return sums

    def _ranges(self) -> list[SummedRange]:
        """What the worker summed of the committed tokens. Sums that reach beyond them are not of these tokens only."""
        found, end = list[SummedRange](), self.first_position
        for one in self._summed:
            if end <= one.first and one.end <= self.first_position + len(self.tokens):
                found.append(one)
                end = one.end
        return found

    def is_valid(self, position: int) -> bool:
        """Whether the record of a position, if there is one, follows the choice's own tokens, not rejected drafts."""
        drafts = self._drafts.get(position)
        if drafts is not None and self.first_position + len(self.tokens) >= position:
            own = position - self.first_position
            if tuple(self.tokens[own - len(drafts) : own]) == drafts:
                del self._drafts[position]
        return position not in self._drafts

    @property
    def invalid_positions(self) -> list[int]:
        """The positions whose record follows rejected draft tokens."""
        return [position for position in list(self._drafts) if not self.is_valid(position)]

    async def settle(self, deadline: float) -> None:
        """Wait until every token has its record, or until `deadline` (of time.monotonic)."""
        if self.log is not None:
            self.log.listening.add(self.handle)
        try:
            while self._is_incomplete() and (left := deadline - time.monotonic()) > 0:
                self._arrived = asyncio.Event()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), left)
        finally:
            self._arrived = None
            if self.log is not None and self.on_records is None:
                self.log.listening.discard(self.handle)

    def _is_incomplete(self) -> bool:
        return bool(self.num_missing) or (self.logprobs is not None and None in self.policy_logprobs())

    def finish(self) -> None:
        """Release what is not needed after the choice has ended."""
        self.read()
        if self.log is not None:
            self.log.forget(self.handle)
            self.log = None
        if self.logprobs is not None:
            self.logprobs.finish(self.tokens, self.first_position, self.forks)
        self.on_records = self._profile = self._sums = None  # the callback would keep the whole tree alive
        self.forks, self.new_forks, self.confidence, self.margin, self.certainty = {}, [], {}, {}, {}
        self._finished = True

    def profile(self) -> Profile:
        """The records of the committed tokens, as arrays; not those evaluated beyond them (a stop string's tail)."""
        self.read()
        amount = self._amount()
        if self._profile is not None and self._profile[0] == amount and (read := self._profile[1]()) is not None:
            return read
        profile = self._read([_rows(columns, rules, chunk) for columns, rules, chunk in self._chunks])
        # a finished trace may be stored for long, and a profile is as large as its records
        self._profile = amount, weakref.ref(profile) if self._finished else lambda: profile
        return profile

    def _amount(self) -> tuple[int, int]:
        """How much is known: bytes of records, and tokens."""
        return sum(len(chunk) for _, _, chunk in self._chunks), len(self.tokens)

    def has_records_since(self, cursor: tuple[int, int]) -> bool:
        """Whether records have arrived after a cursor of `records_since`, of committed tokens or not."""
        self.read()
        number, offset = cursor
        return number < len(self._chunks) - 1 or (bool(self._chunks) and offset < len(self._chunks[number][2]))

    def records_since(self, cursor: tuple[int, int], until: int | None = None) -> tuple[Profile, tuple[int, int]]:
        """The records of committed tokens from a cursor on, (0, 0) at first; and the next cursor.

        `until`: those of the first so many tokens only.
        """
        self.read()
        first, offset = cursor
        parts, length = [], self.first_position + (len(self.tokens) if until is None else until)
        for number, (columns, rules, chunk) in enumerate(self._chunks[first:], first):
            rows = _rows(columns, rules, chunk[offset if number == first else 0 :])
            uncertain = np.flatnonzero(rows.position >= length)
            count = int(uncertain[0]) if len(uncertain) else len(rows.values)
            while 0 < count < len(rows.values) and rows.flags[count] & DRAFT:
                count -= 1  # a step is read whole
            parts.append(RecordRows(rows.values[:count], rules))
            cursor = number, (offset if number == first else 0) + count * columns * rows.values.itemsize
            if len(uncertain):
                break
        return self._read(parts), cursor

    def _read(self, parts: Sequence[RecordRows]) -> Profile:
        return read_profile(
            parts, self.tokens, self.first_position, self.hidden, self.replaced, alternatives=self._alternatives
        )


def _outside(ranges: Sequence[SummedRange], position: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which positions [n] are in none of the ranges, which do not overlap and rise."""
    firsts, ends = np.array([one.first for one in ranges]), np.array([one.end for one in ranges])
    outside: NDArray[np.bool_] = np.searchsorted(firsts, position, "right") == np.searchsorted(ends, position, "right")
    return outside


@cache
def _heads(columns: int) -> Struct:
    """Reads the HEAD of each row of so many columns."""
    return Struct(f"{HEAD.format}{4 * columns - HEAD.size}x")


def _rows(columns: int, rules: int, chunk: bytearray) -> RecordRows:
    return RecordRows(np.frombuffer(bytes(chunk), np.int32).reshape(-1, columns), rules)


def join_traces(traces: Sequence[Trace]) -> Trace:
    """One trace of consecutive ones from position 0. Where drafts ran over an end, the next trace's records count."""
    whole = Trace(0, traces[0].choice, ended=True)
    for trace in traces:
        trace.read()
        whole.hidden.extend(trace.hidden, len(whole.tokens))
        whole.tokens += trace.tokens
        whole._chunks += trace._chunks
        whole._alternatives |= trace._alternatives
    return whole
