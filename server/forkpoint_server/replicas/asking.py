"""Sends signed questions to other servers: to registered addresses only, with no user's key, through no proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlencode

import httpx

from forkpoint_server import metrics
from forkpoint_server.errors import ApiError
from forkpoint_server.store.servers import KnownServer

from .questions import PREFIX
from .signature import HEADER, sign

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0
"""How long an answer may take to begin: the JSON of a long trace takes a second or two."""
SILENCE_SECONDS = 45.0
"""How long a stream may be silent: a comment comes every 15 seconds."""
MAX_CONNECTIONS = 512
MAX_AT_ONCE = 32
"""The servers that one search asks at once."""
MAX_SEARCHES = 16
"""Searches of all servers at once; one more is refused: each costs every server a look-up."""
RETRY_SECONDS = 5


class UnansweredError(Exception):
    """A server that could not be asked, or did not answer as it should; `reason` says which."""

    def __init__(self, server: KnownServer, reason: str) -> None:
        self.server = server
        why = reason if server.is_living else server.end
        super().__init__(f"the server {server.id} at {server.address} {why}")


class Asking:
    """The connections to the other servers."""

    def __init__(self) -> None:
        self._num_searches = 0
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_AT_ONCE),
            verify=ssl.create_default_context(),
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def ask(self, server: KnownServer, path: str, query: Mapping[str, str]) -> httpx.Response | None:
        """The answer of a server, whose body is still to be read; None for its 404. Raises UnansweredError."""
        question = path.removeprefix(f"{PREFIX}/")
        try:
            answer = await self._ask(server, path, query)
        except UnansweredError:
            _count(question, "none")
            raise
        _count(question, "not_found" if answer is None else "found")
        return answer

    async def _ask(self, server: KnownServer, path: str, query: Mapping[str, str]) -> httpx.Response | None:
        encoded = urlencode(query)
        headers = {HEADER: sign(server.key, path, encoded), "Accept-Encoding": "identity"}
        request = self._client.build_request("GET", f"{server.address}{path}?{encoded}", headers=headers)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.send(request, stream=True)
        except (httpx.HTTPError, TimeoutError):
            raise UnansweredError(server, "does not answer") from None
        if response.status_code == HTTPStatus.OK:
            return response
        await response.aclose()
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        raise UnansweredError(server, f"answered with {response.status_code}")

    async def ask_all(
        self, servers: Sequence[KnownServer], path: str, query: Mapping[str, str]
    ) -> tuple[list[httpx.Response], list[UnansweredError]]:
        """The answers that are no 404, and the servers that did not answer. Raises ApiError (503) for too many
        searches."""
        if self._num_searches >= MAX_SEARCHES:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many requests are being looked for on the other servers; send it again later",
                retry_seconds=1,
            )
        at_once = asyncio.Semaphore(MAX_AT_ONCE)

        async def one(server: KnownServer) -> httpx.Response | None:
            async with at_once:
                return await self.ask(server, path, query)

        self._num_searches += 1
        try:
            found = await asyncio.gather(*map(one, servers), return_exceptions=True)
        finally:
            self._num_searches -= 1
        answers = [answer for answer in found if isinstance(answer, httpx.Response)]
        unanswered = [error for error in found if isinstance(error, UnansweredError)]
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, UnansweredError):
                await close(answers)
                raise error
        return answers, unanswered


def _count(question: str, answer: str) -> None:
    metrics.ASKED.labels(metrics.served_model(), question, answer).inc()


async def close(answers: Sequence[httpx.Response]) -> None:
    """Release the connections of answers that nobody reads on."""
    await asyncio.gather(*(answer.aclose() for answer in answers))
