"""Records over the network: encrypted, from workers with the key only, and after the network was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
import zmq

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY, Endpoint, KeyPair
from forkpoint_policies.worker.records import alternatives_type, encode, num_columns, row_type
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace

HOST = "127.0.0.1"
ENTROPY = 0.123456789


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, Endpoint]]:
    """A receiver, and its endpoint as a worker on another host sees it: without the local socket."""
    receiver = Receiver(HOST)
    await receiver.start()
    try:
        yield receiver, replace_local(Endpoint.decode(receiver.address))
    finally:
        await receiver.stop()


def replace_local(endpoint: Endpoint) -> Endpoint:
    return Endpoint("ipc:///another/host", endpoint.remote, *keys_of(endpoint))


def keys_of(endpoint: Endpoint) -> tuple[str, str, str]:
    return endpoint.server_public, endpoint.worker_public, endpoint.worker_secret


@asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    endpoint.connect(socket)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def message(handle: int, position: int) -> list[bytes]:
    row = np.zeros(1, row_type(0))
    row["handle"], row["position"], row["entropy"] = handle, position, ENTROPY
    return encode(row.view(np.int32).reshape(1, -1), np.zeros((0, num_columns(alternatives_type(0))), np.int32), 0, 0.1)


def opened(receiver: Receiver, num_tokens: int) -> Trace:
    trace = receiver.open(0, 0, 0.6, 0)
    trace.tokens = list(range(num_tokens))
    return trace


async def test_a_worker_on_another_host_reports() -> None:
    async with receiving() as (receiver, endpoint), connected(endpoint) as socket:
        trace = opened(receiver, 2)
        assert endpoint.is_remote
        for position in range(2):
            socket.send_multipart(message(trace.handle, position))
        await receiver.settle([trace])
        assert trace.num_missing == 0


async def test_a_worker_on_the_same_host_uses_the_local_socket() -> None:
    async with receiving() as (receiver, _):
        assert not Endpoint.decode(receiver.address).is_remote


async def test_with_a_cluster_key_no_secret_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELEMETRY_KEY, "a key of this cluster")
    async with receiving() as (receiver, endpoint):
        assert keys_of(endpoint) == ("", "", "")
        async with connected(endpoint) as socket:
            trace = opened(receiver, 1)
            socket.send_multipart(message(trace.handle, 0))
            await receiver.settle([trace])
            assert trace.num_missing == 0
        monkeypatch.setenv(TELEMETRY_KEY, "another cluster's key")
        async with connected(endpoint) as socket:
            other = opened(receiver, 1)
            socket.send_multipart(message(other.handle, 0))
            await receiver.settle([other])
            assert other.num_missing == 1


def test_a_short_cluster_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELEMETRY_KEY, "short")
    with pytest.raises(ValueError, match="at least 16"):
        Receiver(HOST)


@pytest.mark.parametrize("stranger", ["no key", "own key", "server's public key only"])
async def test_a_stranger_cannot_forge_records(stranger: str) -> None:
    """Also one that knows the server's public key, which is not a secret."""
    async with receiving() as (receiver, endpoint):
        context = zmq.Context()
        socket = context.socket(zmq.PUSH)
        if stranger != "no key":
            own, server = KeyPair.new(), KeyPair.new()
            socket.curve_publickey, socket.curve_secretkey = own.public.encode(), own.secret.encode()
            known = server.public if stranger == "own key" else endpoint.server_public
            socket.curve_serverkey = known.encode()
        socket.connect(endpoint.remote)
        trace, genuine = opened(receiver, 1), opened(receiver, 1)
        socket.send_multipart(message(trace.handle, 0))
        async with connected(endpoint) as worker:
            worker.send_multipart(message(genuine.handle, 0))
            await receiver.settle([trace, genuine])
        assert (trace.num_missing, genuine.num_missing) == (1, 0)
        context.destroy(linger=0)


async def test_a_stranger_between_them_reads_nothing() -> None:
    """All bytes between worker and server pass through a proxy that writes them down."""
    seen = bytearray()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            seen.extend(data)
            target.write(data)
            await target.drain()
        target.close()

    async with receiving() as (receiver, endpoint):
        host, _, port = endpoint.remote.removeprefix("tcp://").rpartition(":")

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))

        proxy = await asyncio.start_server(accept, HOST, 0)
        through = Endpoint(endpoint.local, f"tcp://{HOST}:{proxy.sockets[0].getsockname()[1]}", *keys_of(endpoint))
        async with connected(through) as socket:
            trace = opened(receiver, 1)
            frames = message(trace.handle, 0)
            socket.send_multipart(frames)
            await receiver.settle([trace])
            assert trace.num_missing == 0
        proxy.close()
        assert len(seen) > 200
        assert b"CURVE" in seen
        assert np.float32(ENTROPY).tobytes() not in seen
        assert frames[0] not in seen


async def test_after_a_cut_the_worker_reports_again_and_losses_are_counted() -> None:
    """The proxy, which stands for the network, drops its connections. What was in them is lost; the rest arrives."""
    num_before, num_after = 5, 50
    connections: list[asyncio.StreamWriter] = []

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
        target.close()

    async with receiving() as (receiver, endpoint):
        host, _, port = endpoint.remote.removeprefix("tcp://").rpartition(":")

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            connections.extend((writer, server_writer))
            await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))

        proxy = await asyncio.start_server(accept, HOST, 0)
        through = Endpoint(endpoint.local, f"tcp://{HOST}:{proxy.sockets[0].getsockname()[1]}", *keys_of(endpoint))
        async with connected(through) as socket:
            before, during = opened(receiver, num_before), opened(receiver, 1)
            for position in range(num_before):
                socket.send_multipart(message(before.handle, position))
            await receiver.settle([before])
            assert before.num_missing == 0

            # what is sent until the worker is connected again may be lost
            for writer in connections:
                writer.transport.abort()
            async with asyncio.timeout(20):
                while during.num_missing:
                    socket.send_multipart(message(during.handle, 0))
                    await asyncio.sleep(0.05)

            after = opened(receiver, num_after + 1)
            for position in range(num_after):
                socket.send_multipart(message(after.handle, position))
            await receiver.settle([after])
            assert after.num_missing == 1, "the one that was never sent"
        proxy.close()


def test_an_endpoint_is_one_string() -> None:
    endpoint = Endpoint("ipc:///here", "tcp://[::1]:5", *["k" * 40] * 3)
    assert Endpoint.decode(endpoint.encode()) == endpoint
    assert Endpoint("ipc:///here").encode() == "ipc:///here"
    assert Endpoint.decode("ipc:///here") == Endpoint("ipc:///here")
