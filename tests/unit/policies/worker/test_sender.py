"""Sending records to the server over real sockets, with and without a receiver."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from forkpoint_policies.kernel.step import Record
from forkpoint_policies.worker.records import MAX_MESSAGES_WAITING, Batch, RecordRows, decode
from forkpoint_policies.worker.sender import Destinations, Sender

PATIENCE_MS = 10_000


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


def record_of(rows: int, detailed: int = 0, rules: int = 2, alternatives: int = 3) -> Record:
    """A record whose numbers name their row: row 3 has entropy 3, and its alternatives are 30, 31, …"""
    heads = torch.arange(rows, dtype=torch.float32)[:, None] + torch.arange(4 + rules) / 100
    tokens = torch.arange(alternatives) + 10 * torch.arange(detailed)[:, None]
    return Record(
        position=torch.arange(rows) + 1000,
        last_token=torch.arange(rows) + 2000,
        flags=torch.arange(rows) << 8,
        numbers=heads,
        alternatives=tokens if detailed else None,
        probabilities=tokens / 1000 if detailed else None,
    )


def to(rows_of: dict[str, list[int]], rows: int, detailed: list[int] | None = None) -> Destinations:
    """Row r has handle 500 + r."""
    return Destinations(
        handles=torch.arange(500, 500 + rows, dtype=torch.int32),
        drafts=np.zeros(rows, np.int32),
        rows_of={address: np.array(own) for address, own in rows_of.items()},
        detailed=np.array(detailed or [], np.int32),
    )


@contextmanager
def sending() -> Iterator[Sender]:
    sender = Sender()
    try:
        yield sender
    finally:
        sender.close()


def test_a_record_arrives(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket, sending() as sender:
        sender.report(record_of(3), to({address: [0, 1, 2]}, rows=3), seconds=0.25)
        batch = receive(socket)
    assert batch.rows.handle.tolist() == [500, 501, 502]
    assert batch.rows.position.tolist() == [1000, 1001, 1002]
    assert batch.rows.flags.tolist() == [0, 256, 512]
    assert numbers_of(batch.rows) == record_of(3).numbers.tolist()
    assert batch.alternatives.shape == (0, 0)
    assert batch.seconds == 0.25
    assert sender.lost == 0


def test_records_arrive_in_order(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket, sending() as sender:
        for number in range(200):
            sender.report(record_of(1), to({address: [0]}, rows=1), seconds=float(number))
        assert [receive(socket).seconds for _ in range(200)] == list(range(200))


def test_each_address_gets_its_own_rows(tmp_path: Path) -> None:
    one, other = f"ipc://{tmp_path}/one", f"ipc://{tmp_path}/other"
    with receiving(one) as first, receiving(other) as second, sending() as sender:
        sender.report(record_of(5), to({one: [0, 3], other: [1, 4]}, rows=5), seconds=0.0)
        here, there = receive(first), receive(second)
    assert (here.rows.handle.tolist(), there.rows.handle.tolist()) == ([500, 503], [501, 504])
    assert here.rows.entropy.tolist() == [0.0, 3.0]
    assert there.rows.entropy.tolist() == [1.0, 4.0]


def test_alternatives_belong_to_their_rows(tmp_path: Path) -> None:
    """Rows 1, 2 and 4 of five have alternatives; each address gets those of its own rows, numbered among these."""
    one, other, third = (f"ipc://{tmp_path}/{name}" for name in ("one", "other", "third"))
    with receiving(one) as first, receiving(other) as second, receiving(third) as last, sending() as sender:
        destinations = to({one: [0, 4, 1], other: [2], third: [3]}, rows=5, detailed=[1, 2, 4])
        sender.report(record_of(5, detailed=3), destinations, seconds=0.0)
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
    assert batches[2].rows.handle.tolist() == [503]


def test_an_absent_receiver_neither_blocks_nor_raises(tmp_path: Path) -> None:
    """The queues hold a limited number of messages for it; the rest is lost and counted."""
    address, steps, rows = f"ipc://{tmp_path}/nobody", MAX_MESSAGES_WAITING + 500, 2
    sender, record, destinations = Sender(), record_of(rows), to({address: [0, 1]}, rows=rows)
    longest = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        sender.report(record, destinations, seconds=0.0)
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
        sender.report(record_of(1), to({address: [0]}, rows=1), seconds=1.5)
        time.sleep(0.05)
        with receiving(address) as socket:
            assert receive(socket).seconds == 1.5


def test_an_absent_receiver_does_not_delay_records_for_others(tmp_path: Path) -> None:
    gone, here = f"ipc://{tmp_path}/gone", f"ipc://{tmp_path}/here"
    with receiving(here) as socket, sending() as sender:
        for _ in range(50):
            sender.report(record_of(2), to({gone: [0], here: [1]}, rows=2), seconds=0.0)
        assert [receive(socket).rows.handle.tolist() for _ in range(50)] == [[501]] * 50


def test_an_invalid_address_is_logged_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = f"ipc://{tmp_path}/t"
    with caplog.at_level(logging.ERROR), receiving(address) as socket, sending() as sender:
        sender.report(record_of(3), to({"nonsense": [0, 1, 2]}, rows=3), seconds=0.0)
        sender.report(record_of(3), to({address: [0]}, rows=3), seconds=0.5)
        assert receive(socket).seconds == 0.5
    assert sender.lost == 3
    assert "telemetry record could not be sent" in caplog.text


def test_closing_sends_what_waits(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    with receiving(address) as socket:
        sender = Sender()
        for _ in range(20):
            sender.report(record_of(1), to({address: [0]}, rows=1), seconds=0.0)
        sender.close()
        sender.close()
        assert len([receive(socket) for _ in range(20)]) == 20


def test_closing_a_sender_that_never_sent() -> None:
    Sender().close()
