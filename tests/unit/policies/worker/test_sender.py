"""Sending records to the server over real sockets, with and without a receiver."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.step_types import StepRecord
from forkpoint_policies.worker.destinations import Address, Destinations
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.record_sums import NUM_FRAMES, SumsMessage, decode_sums
from forkpoint_policies.worker.records import (
    MAX_MESSAGES_WAITING,
    Batch,
    RecordRows,
    decode,
    decode_distribution,
    decode_hidden,
    decode_logprobs,
)
from forkpoint_policies.worker.request import Request, Wanted
from forkpoint_policies.worker.sampled_from import ScoredRows
from forkpoint_policies.worker.sender import Sender
from forkpoint_policies.worker.summed_rows import TAIL_STEPS
from tests.unit.policies.factories import compiled, policy, rule

PATIENCE_MS = 10_000
NO_LOGITS = torch.zeros(0, 0)
PROGRAM = compiled(policy(rule(observe={})))
RULES = 2


@contextmanager
def receiving(address: str) -> Iterator[zmq.Socket[bytes]]:
    """The server's end of the channel."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(address)
        yield socket


def receive(socket: zmq.Socket[bytes]) -> Batch:
    return decode(socket.recv_multipart())


def numbers_of(rows: RecordRows) -> list[list[float]]:
    """What the kernel measured, as in Record.numbers."""
    single = [rows.column(name)[:, None] for name in ("entropy", "varentropy", "top_probability", "connector_mass")]
    numbers: list[list[float]] = np.concatenate((*single, rows.effect), axis=1).tolist()
    return numbers


def numbers_of_record(rows: int) -> torch.Tensor:
    """They name their row: row 3 has entropy 3."""
    return torch.arange(rows, dtype=torch.float32)[:, None] + torch.arange(4 + RULES) / 100


def record_of(rows: int, sent: dict[int, list[int]] | None = None, detailed: Sequence[int] = ()) -> StepRecord:
    """A record of which `sent` says which rows go to which address. Row r has handle 500 + r, and the n-th of the
    detailed rows the alternatives 10 n, 10 n + 1, …"""
    values = torch.zeros(rows, c.RECORD_COLUMNS, dtype=torch.int32)
    values[:, c.R_HANDLE] = torch.arange(rows) + 500
    values[:, c.R_POSITION] = torch.arange(rows) + 1000
    values[:, c.R_LAST_TOKEN] = torch.arange(rows) + 2000
    values[:, c.R_FLAGS] = torch.arange(rows) << 8
    values[:, c.R_ADDRESS] = c.NONE
    for address, own in (sent or {0: list(range(rows))}).items():
        values[own, c.R_ADDRESS] = address
    values.view(torch.float32)[:, c.R_ENTROPY : c.R_EFFECT + RULES] = numbers_of_record(rows)
    likeliest, certainty = torch.full((rows, 3), c.NONE, dtype=torch.int32), torch.zeros(rows)
    for number, row in enumerate(detailed):
        likeliest[row], certainty[row] = torch.arange(3) + 10 * number, number
    return StepRecord.of(values, likeliest, likeliest / 1000, certainty)


def to(*addresses: str) -> Destinations:
    return Destinations([Address(one) for one in addresses], Wanted(rules=RULES))


def untruncated(logits: torch.Tensor, top_k: torch.Tensor | None, top_p: torch.Tensor | None) -> torch.Tensor:
    """For requests without a top-k or top-p."""
    assert top_k is None
    assert top_p is None
    return logits


@contextmanager
def sending() -> Iterator[Sender]:
    sender = Sender(untruncated)
    try:
        yield sender
    finally:
        sender.close()


def test_a_record_arrives(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket, sending() as sender:
        sender.report(record_of(3), to(address), seconds=0.25, logits=NO_LOGITS)
        batch = receive(socket)
    assert batch.rows.handle.tolist() == [500, 501, 502]
    assert batch.rows.position.tolist() == [1000, 1001, 1002]
    assert batch.rows.flags.tolist() == [0, 256, 512]
    assert numbers_of(batch.rows) == numbers_of_record(3).tolist()
    assert batch.alternatives.shape == (0, 0)
    assert batch.seconds == 0.25
    assert sender.lost == 0


def test_records_arrive_in_order(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket, sending() as sender:
        for number in range(200):
            sender.report(record_of(1), to(address), seconds=float(number), logits=NO_LOGITS)
        assert [receive(socket).seconds for _ in range(200)] == list(range(200))


def test_each_address_gets_its_own_rows(tmp_path: Path) -> None:
    one, other = f"ipc://{tmp_path}/one", f"ipc://{tmp_path}/other"
    with receiving(one) as first, receiving(other) as second, sending() as sender:
        sender.report(record_of(5, {0: [0, 3], 1: [1, 4]}), to(one, other), seconds=0.0, logits=NO_LOGITS)
        here, there = receive(first), receive(second)
    assert (here.rows.handle.tolist(), there.rows.handle.tolist()) == ([500, 503], [501, 504])
    assert here.rows.entropy.tolist() == [0.0, 3.0]
    assert there.rows.entropy.tolist() == [1.0, 4.0]


def test_alternatives_belong_to_their_rows(tmp_path: Path) -> None:
    """Rows 1, 2 and 4 of five have alternatives; each address gets those of its own rows, numbered among these."""
    one, other, third = (f"ipc://{tmp_path}/{name}" for name in ("one", "other", "third"))
    with receiving(one) as first, receiving(other) as second, receiving(third) as last, sending() as sender:
        record = record_of(5, {0: [0, 4, 1], 1: [2], 2: [3]}, detailed=[1, 2, 4])
        sender.report(record, to(one, other, third), seconds=0.0, logits=NO_LOGITS)
        batches = [receive(first), receive(second), receive(last)]
    reported = [
        {
            int(batch.rows.handle[row]): alternatives.tolist()
            for row, alternatives in zip(batch.detailed, batch.alternatives, strict=True)
        }
        for batch in batches
    ]
    assert reported == [{501: [0, 1, 2], 504: [20, 21, 22]}, {502: [10, 11, 12]}, {}]
    assert batches[1].probabilities.tolist() == [pytest.approx([0.010, 0.011, 0.012])]
    assert batches[1].certainty.tolist() == [1.0]
    assert batches[2].rows.handle.tolist() == [503]


def test_an_absent_receiver_neither_blocks_nor_raises(tmp_path: Path) -> None:
    """The queues hold a limited number of messages for it; the rest is lost and counted."""
    address, steps, rows = f"ipc://{tmp_path}/nobody", MAX_MESSAGES_WAITING + 500, 2
    sender, record, destinations = Sender(untruncated), record_of(rows), to(address)
    longest = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        sender.report(record, destinations, seconds=0.0, logits=NO_LOGITS)
        longest = max(longest, time.perf_counter() - started)
    started = time.perf_counter()
    sender.close()
    assert longest < 5
    assert time.perf_counter() - started < 5
    assert sender.lost >= 500 * rows
    assert sender.lost % rows == 0


def test_a_receiver_that_comes_late_gets_what_waited(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/late"
    with sending() as sender:
        sender.report(record_of(1), to(address), seconds=1.5, logits=NO_LOGITS)
        time.sleep(0.05)
        with receiving(address) as socket:
            assert receive(socket).seconds == 1.5


def test_an_absent_receiver_does_not_delay_records_for_others(tmp_path: Path) -> None:
    gone, here = f"ipc://{tmp_path}/gone", f"ipc://{tmp_path}/here"
    with receiving(here) as socket, sending() as sender:
        for _ in range(50):
            sender.report(record_of(2, {0: [0], 1: [1]}), to(gone, here), seconds=0.0, logits=NO_LOGITS)
        assert [receive(socket).rows.handle.tolist() for _ in range(50)] == [[501]] * 50


def test_an_invalid_address_is_logged_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = f"ipc://{tmp_path}/t"
    with caplog.at_level(logging.ERROR), receiving(address) as socket, sending() as sender:
        sender.report(record_of(3), to("nonsense"), seconds=0.0, logits=NO_LOGITS)
        sender.report(record_of(3), to(address), seconds=0.5, logits=NO_LOGITS)
        assert receive(socket).seconds == 0.5
    assert sender.lost == 3
    assert "telemetry record could not be sent" in caplog.text


def test_log_probabilities_arrive_with_the_next_token_and_the_last_distribution_whole(tmp_path: Path) -> None:
    """Position 0 samples token 2, position 1 is the last: nothing comes after it."""
    address, logits = f"ipc://{tmp_path}/t", torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    payload = PolicyPayload(b"", "key", 7, address, 0, 1, scored=True)
    scored = ScoredRows.of([(0, Request(payload, PROGRAM, 1.0))], 3, torch.device("cpu"))
    destinations = Destinations([Address(address)], Wanted(rules=RULES), scored)
    with receiving(address) as socket, sending() as sender:
        for position, last in enumerate((0, 2)):
            record = record_of(1)
            record.rows[0, c.R_POSITION], record.rows[0, c.R_LAST_TOKEN] = position, last
            sender.report(record, destinations, seconds=0.0, logits=logits[position, None])
        messages = [socket.recv_multipart() for _ in range(4)]
    (first,) = decode_logprobs(next(one for one in messages if len(one) == 1))
    assert first[:3] == (7, 0, 2)
    assert first[3] == pytest.approx(float(logits[0].log_softmax(0)[2]), abs=1e-6)
    whole = decode_distribution(next(one for one in messages if len(one) == 2))
    assert (whole.handle, whole.position) == (7, 1)
    assert whole.logprobs == pytest.approx(logits[1].log_softmax(0).numpy(), abs=1e-6)


def test_closing_sends_what_waits(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket:
        sender = Sender(untruncated)
        for _ in range(20):
            sender.report(record_of(1), to(address), seconds=0.0, logits=NO_LOGITS)
        sender.close()
        sender.close()
        assert len([receive(socket) for _ in range(20)]) == 20


def test_closing_a_sender_that_never_sent() -> None:
    Sender(untruncated).close()


def test_signals_of_hidden_states_are_sent_before_the_records(tmp_path: Path) -> None:
    """Only of rows that have some: a server that has a token's record then has them, too."""
    address, sender = f"ipc://{tmp_path}/hidden", Sender(untruncated)
    record = replace(record_of(3), hidden=torch.tensor([[torch.nan] * 3, [2.5, torch.nan, torch.nan], [torch.nan] * 3]))
    with receiving(address) as socket:
        sender.report(record, to(address), seconds=0.0, logits=NO_LOGITS)
        hidden, rows = decode_hidden(socket.recv_multipart()), receive(socket).rows
        sender.close()
    assert hidden.places.tolist() == [[rows.handle[1], rows.position[1]]]
    assert np.array_equal(hidden.values, [[2.5, np.nan, np.nan]], equal_nan=True)


def test_rows_to_be_summed_arrive_when_their_choice_is_no_longer_in_a_step(tmp_path: Path) -> None:
    """Two choices, of which the second ends; and one whose records are read, at the same server."""
    endpoint, threshold = f"ipc://{tmp_path}/t", 0.5
    destinations = Destinations([Address(endpoint), Address(endpoint, threshold)], Wanted(rules=RULES))
    with receiving(endpoint) as socket, sending() as sender:
        for step, rows in enumerate([3] * 20 + [2]):
            record = record_of(rows, {0: [0], 1: list(range(1, rows))})
            record.rows[:, c.R_POSITION] = step
            record.rows[:, c.R_FLAGS] = 0
            sender.report(record, destinations, seconds=0.5, logits=NO_LOGITS)
        singles, messages = list[Batch](), list[SumsMessage]()
        while len(singles) < 21 or sum(one.num_tokens for one in messages) < 41:
            frames = socket.recv_multipart()
            if len(frames) == NUM_FRAMES:
                messages.append(decode_sums(frames))
            else:
                singles.append(decode(frames))
    assert [batch.rows.handle.tolist() for batch in singles] == [[500]] * 21
    assert sum(len(message.seconds) for message in messages) == 0, "a server counts a step once"
    ended = {places[0]: places for message in messages for places in message.places.tolist()}
    assert ended[502] == [502, 0, 20 - TAIL_STEPS, 20 - TAIL_STEPS]
    assert {handle: first for handle, (_, first, _, _) in ended.items()} == {501: 0, 502: 0}
    assert sender.lost == 0
