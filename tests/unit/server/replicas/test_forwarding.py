"""Any server answers for any request: real HTTP servers on a real PostgreSQL, without an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError
from forkpoint_server.replicas import asking
from forkpoint_server.replicas.questions import StoredTokens
from forkpoint_server.replicas.signature import HEADER, sign
from forkpoint_server.requests.tree import Tree
from forkpoint_server.state_reading.stored import find_tokens
from forkpoint_server.store import servers
from forkpoint_server.store.database import open_database
from forkpoint_server.store.tables import SERVERS
from tests.processes.postgresql import PostgreSQL
from tests.unit.policies.vocabularies import tokens

from . import cluster as cluster_of
from .cluster import Member, all_known, member, until


@pytest.fixture(scope="module")
def shared(postgresql_server: PostgreSQL) -> Iterator[Engine]:
    database = open_database(postgresql_server.new_database())
    yield database
    database.dispose()


@pytest.fixture
async def cluster(shared: Engine) -> AsyncIterator[list[Member]]:
    """Three servers that know each other."""
    with shared.begin() as connection:
        connection.execute(SERVERS.delete())
    async with member(shared) as first, member(shared) as second, member(shared) as third:
        await all_known(first, second, third)
        yield [first, second, third]


def ids(page: httpx.Response) -> list[str]:
    return [row["id"] for row in page.raise_for_status().json()["data"]]


async def test_an_id_of_a_server_is_asked_of_that_one_only(cluster: list[Member]) -> None:
    first, second, third = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    second.add(request_id)
    found = (await first.get(f"/v1/forks/{request_id}")).raise_for_status().json()
    assert found == (await second.get(f"/v1/forks/{request_id}")).json()
    assert found["id"] == request_id
    assert second.asked.count("/replica/trace") == 1
    assert third.asked == []


async def test_an_id_of_a_client_is_asked_of_all_and_the_last_request_counts(cluster: list[Member]) -> None:
    first, second, third = cluster
    second.add("chatcmpl-2", created=200.0, client_id="mine/Ü 1")
    third.add("chatcmpl-3", created=300.0, client_id="mine/Ü 1")
    assert (await first.get("/v1/forks/mine/Ü 1")).raise_for_status().json()["id"] == "chatcmpl-3"
    second.add("chatcmpl-4", created=400.0, client_id="mine/Ü 1")
    assert (await first.get("/v1/forks/mine/Ü 1")).raise_for_status().json()["id"] == "chatcmpl-4"


def asked(question: str, answer: str) -> float:
    labels = {"model_name": metrics.served_model(), "question": question, "answer": answer}
    return REGISTRY.get_sample_value("forkpoint_server_questions_total", labels) or 0.0


async def test_questions_and_servers_are_counted(cluster: list[Member]) -> None:
    first, second, third = cluster
    kinds = [("trace", "found"), ("trace", "not_found"), ("trace", "none"), ("rows", "found")]
    before = [asked(*kind) for kind in kinds]
    second.add("chatcmpl-5", client_id="mine")
    (await first.get("/v1/forks/mine")).raise_for_status()
    (await first.get("/v1/forks")).raise_for_status()
    assert [asked(*kind) - old for kind, old in zip(kinds, before, strict=True)] == [1, 1, 0, 2]
    assert REGISTRY.get_sample_value("forkpoint_servers", {"model_name": metrics.served_model()}) == 3
    await third.die()
    assert (await first.get("/v1/forks/unheard-of")).status_code == 503
    assert asked("trace", "none") - before[2] == 1


async def test_what_no_server_has_is_asked_once_of_each(cluster: list[Member]) -> None:
    """A question that was forwarded is answered, not forwarded: no loops."""
    first, second, third = cluster
    response = await first.get("/v1/forks/unheard-of")
    assert response.status_code == 404
    assert "had neither a policy nor `forks`" in response.json()["error"]["message"]
    assert [one.asked for one in (second, third)] == [["/replica/trace"]] * 2
    assert first.asked == ["/v1/forks/unheard-of"]


async def test_a_list_shows_who_has_started_since_the_last_heartbeat(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_of, "HEARTBEAT_SECONDS", 60.0)
    with shared.begin() as connection:
        connection.execute(SERVERS.delete())
    async with member(shared) as first, member(shared) as second:
        assert not first.replicas.living
        second.add("chatcmpl-6", created=2.0)
        second.add("chatcmpl-7", created=1.0)
        assert ids(await first.get("/v1/forks", limit=1)) == ["chatcmpl-6"]
        assert ids(await first.get("/v1/forks", after="chatcmpl-6")) == ["chatcmpl-7"]


async def test_a_client_may_use_a_servers_id(cluster: list[Member]) -> None:
    """Who sends a response's id as its own next id gets another server's request, too."""
    first, second, third = cluster
    request_id = str(second.replicas.new_request_id())
    third.add("chatcmpl-other", client_id=request_id)
    assert (await first.get(f"/v1/forks/{request_id}")).raise_for_status().json()["id"] == "chatcmpl-other"


async def test_a_running_request_is_followed_from_any_server(cluster: list[Member]) -> None:
    first, second, _ = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    events: list[Any] = []
    headed = asyncio.Event()

    async def follow() -> None:
        url = f"{first.url}/v1/forks/{request_id}"
        async with httpx.AsyncClient() as client, client.stream("GET", url, params={"stream": "true"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(line[6:])
                    headed.set()

    with second.running(request_id) as context:
        follower = asyncio.create_task(follow())
        await asyncio.wait_for(headed.wait(), 10)  # while it runs
        assert json.loads(events[0])["id"] == request_id
        context.response_id = request_id
    await asyncio.wait_for(follower, 10)
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"]


async def test_a_follower_that_leaves_ends_the_stream_at_its_source(cluster: list[Member]) -> None:
    first, second, _ = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    with second.running(request_id):
        url = f"{first.url}/v1/forks/{request_id}"
        async with httpx.AsyncClient() as client, client.stream("GET", url, params={"stream": "true"}) as response:
            await anext(response.aiter_lines())
            assert second.num_followers == 1
        await until(lambda: second.num_followers == 0)


async def test_a_stream_whose_server_dies_ends_with_an_error(cluster: list[Member]) -> None:
    first, second, _ = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    with second.running(request_id):
        url = f"{first.url}/v1/forks/{request_id}"
        async with httpx.AsyncClient() as client, client.stream("GET", url, params={"stream": "true"}) as response:
            lines = response.aiter_lines()
            await anext(lines)
            await second.die()
            rest = [line async for line in lines if line.startswith("data: ")]
    assert "stopped in its answer" in json.loads(rest[-1][6:])["error"]["message"]


async def test_the_trace_of_a_dead_server_is_a_503_and_then_a_404_that_says_why(
    cluster: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    second.add(request_id)
    second.add("chatcmpl-x", client_id="mine")
    await second.die()
    for name in (request_id, "mine"):
        response = await first.get(f"/v1/forks/{name}")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert f"the server {second.id} at {second.url} does not answer" in response.json()["error"]["message"]

    monkeypatch.setattr(servers, "SILENT_SECONDS", 0.5)
    await until(lambda: len(first.replicas.living) == 1)
    response = await first.get(f"/v1/forks/{request_id}")
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert f"is lost with its server: the server {second.id} at {second.url} has been silent since 20" in message
    response = await first.get("/v1/forks/mine")
    assert response.status_code == 404
    assert (
        f"one of the 1 that ended within a day; of these the server {second.id}" in response.json()["error"]["message"]
    )
    assert ids(await third.get("/v1/forks")) == []


async def test_the_trace_of_a_server_that_was_stopped(cluster: list[Member]) -> None:
    first, second, _ = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    await second.replicas.stop()
    await until(lambda: len(first.replicas.living) == 1)
    response = await first.get(f"/v1/forks/{request_id}")
    assert response.status_code == 404
    assert f"the server {second.id} at {second.url} was stopped at 20" in response.json()["error"]["message"]
    assert second.asked == [], "its address may be another's by now"


async def test_a_server_that_only_lost_the_database_still_answers(
    cluster: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    second.add(request_id)
    assert second.replicas._task is not None
    second.replicas._task.cancel()
    monkeypatch.setattr(servers, "SILENT_SECONDS", 0.5)
    await until(lambda: len(first.replicas.living) == 1)
    assert (await first.get(f"/v1/forks/{request_id}")).raise_for_status().json()["id"] == request_id


async def test_the_list_of_all_servers_in_pages(cluster: list[Member]) -> None:
    """Running requests first, then the newest, whichever server is asked for which page."""
    first, second, third = cluster
    for number, one in enumerate([first, second, third] * 4):
        one.add(f"r{number}", created=1000.0 + number)
    with second.running("runs"):
        wanted = ["runs", *(f"r{number}" for number in reversed(range(12)))]
        assert ids(await third.get("/v1/forks")) == wanted
        found: list[str] = []
        for one in [first, second, third] * 3:
            after = {"after": found[-1]} if found else {}
            page = await one.get("/v1/forks", limit=2, **after)
            found += ids(page)
            if not page.json()["has_more"]:
                break
        assert found == wanted
        assert ids(await first.get("/v1/forks", running="true")) == ["runs"]
    assert ids(await first.get("/v1/forks", text=f"of {third.id}", limit=3)) == ["r11", "r8", "r5"]
    refused = await first.get("/v1/forks", after="unheard-of")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


async def test_the_states_of_an_answer_on_another_server_can_be_read(cluster: list[Member]) -> None:
    """The model here writes its tokens again, which come from the server that has its trace."""
    first, second, third = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    second.add(request_id, model_name="countdown")
    expected = StoredTokens("countdown", False, 1, tokens("let|so"), tokens("wait|so|let|wait"))
    assert await find_tokens(first.service, request_id, 0) == expected
    assert (second.asked, third.asked) == (["/replica/tokens"], [])
    assert await find_tokens(second.service, request_id, 0) == expected
    second.add("chatcmpl-5", created=5.0, model_name="adapter", client_id="mine")
    third.add("chatcmpl-6", created=6.0, model_name="countdown", client_id="mine")
    assert (await find_tokens(first.service, "mine", 0)).model == "countdown", "the last one of this id"
    assert len(second.asked) == 2


async def test_states_that_cannot_be_read_of_an_answer_on_another_server(cluster: list[Member]) -> None:
    first, second, _ = cluster
    second.add("chatcmpl-1", model_name="countdown")
    second.add("chatcmpl-2", model_name="another")
    second.add("chatcmpl-3", model_name="countdown", tree=Tree())
    for request_id, number, field, message in (
        ("chatcmpl-1", 1, "choice", "must be below 1, the number of answers"),
        ("chatcmpl-2", 0, "request_id", "is of 'another', which this server does not serve; it serves countdown, ada"),
        ("chatcmpl-3", 0, "request_id", "is of a policy that branches"),
    ):
        with pytest.raises(InputError) as refused:
            await find_tokens(first.service, request_id, number)
        assert refused.value.field == field
        assert refused.value.message.startswith(message)
    with pytest.raises(ApiError, match="there is no trace of 'unheard-of'") as missing:
        await find_tokens(first.service, "unheard-of", 0)
    assert missing.value.status == HTTPStatus.NOT_FOUND
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    await second.die()
    with pytest.raises(ApiError, match=f"the server {second.id} at {second.url} does not answer") as silent:
        await find_tokens(first.service, request_id, 0)
    assert silent.value.status == HTTPStatus.SERVICE_UNAVAILABLE


async def test_a_list_says_which_servers_are_missing(cluster: list[Member]) -> None:
    first, second, third = cluster
    first.add("one", created=1.0)
    third.add("three", created=3.0)
    await second.die()
    page = await first.get("/v1/forks")
    assert ids(page) == ["three", "one"]
    assert page.headers["x-forkpoint-warning"] == (
        f"the server {second.id} at {second.url} does not answer: its requests are not listed"
    )


async def test_only_servers_of_the_database_may_ask(cluster: list[Member]) -> None:
    first, second, _ = cluster
    first.add("one")
    for path, query in (
        ("/replica/trace", "id=one&stream=false"), ("/replica/tokens", "id=one&number=0"),
        ("/replica/position", "id=one"), ("/replica/rows", "limit=5"),
    ):  # fmt: skip
        url = f"{first.url}{path}?{query}"
        for header in ({}, {HEADER: sign(second.replicas.own.key, path, query)}, {HEADER: sign("", path, query)}):
            async with httpx.AsyncClient() as client:
                assert (await client.get(url, headers=header)).status_code == 401
        async with httpx.AsyncClient() as client:
            signed = {HEADER: sign(first.replicas.own.key, path, query)}
            assert (await client.get(url, headers=signed)).status_code == 200


async def test_another_server_at_a_dead_ones_address_is_not_believed(
    cluster: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses what is signed for the other, and never sees a key."""
    first, second, third = cluster
    request_id = f"chatcmpl-{second.replicas.new_request_id()}"
    third.add("chatcmpl-else", client_id=request_id)
    moved = [
        server if server.id != second.id else servers.KnownServer(**{**vars(server), "address": third.url})
        for server in first.replicas.others
    ]
    assert first.replicas._task is not None
    first.replicas._task.cancel()
    first.replicas.others = [server for server in moved if server.id == second.id]
    response = await first.get(f"/v1/forks/{request_id}")
    assert response.status_code == 503
    assert "answered with 401" in response.json()["error"]["message"]


async def test_searches_are_bounded(cluster: list[Member], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = cluster
    monkeypatch.setattr(asking, "MAX_SEARCHES", 0)
    response = await first.get("/v1/forks/unheard-of")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
