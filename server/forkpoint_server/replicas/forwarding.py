"""What this server does not have, it takes from the others. What was forwarded is never forwarded again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus

import httpx
import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from forkpoint_server.errors import ApiError, error_object, not_found
from forkpoint_server.http.event_stream import HEADERS
from forkpoint_server.requests.listing import Filters, Page, Position
from forkpoint_server.requests.stream import event_of

from .asking import RETRY_SECONDS, Asking, UnansweredError, close
from .questions import CREATED_HEADER, POSITION, ROWS, TOKENS, TRACE, StoredTokens, read_position, rows_query
from .registry import Replicas


class Forwarding:
    """Finds traces, their tokens and rows on the other servers."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._asking = Asking()

    async def has_others(self, *, look_again: bool) -> bool:
        """Whether any other server lives; with `look_again` also one that has started since the last heartbeat."""
        if look_again:
            await self._replicas.look_again()
        return bool(self._replicas.living)

    async def stop(self) -> None:
        """Close all connections."""
        await self._asking.stop()

    async def trace(self, request_id: str, stream: bool) -> Response | None:
        """The trace from the server that has it; None where no server has it.

        The server that is named in the id is asked first, then all others that live: an id may be its client's. Where
        it names none that is known, one may have started since the last heartbeat.
        Raises ApiError: 404 where a server that had it has ended, 503 where one that may have it does not answer.
        """
        query = {"id": request_id, "stream": str(stream).lower()}
        answer = await self._find(TRACE, query, request_id)
        return None if answer is None else await _relayed(answer, stream)

    async def tokens(self, request_id: str, number: int) -> StoredTokens | None:
        """The tokens of a stored answer, from the server that has it; None where no server has it. Raises ApiError as
        `trace` does."""
        answer = await self._find(TOKENS, {"id": request_id, "number": str(number)}, request_id)
        if answer is None:
            return None
        try:
            return msgspec.json.decode(await _body_of(answer), type=StoredTokens)
        except ValueError as error:
            raise _interrupted() from error

    async def _find(self, path: str, query: Mapping[str, str], request_id: str) -> httpx.Response | None:
        """What `trace` says, with the answer still to be read."""
        if self._replicas.named_in(request_id) is None:
            await self._replicas.look_again()
        named, failure = self._replicas.named_in(request_id), None
        if named is not None and named.stopped is not None:
            failure = UnansweredError(named, "was stopped")
        elif named is not None:  # a silent one too: it may only have lost the database
            try:
                answer = await self._asking.ask(named, path, query)
                if answer is not None:
                    return answer
            except UnansweredError as error:
                failure = error
        others = [server for server in self._replicas.living if server is not named]
        answers, unanswered = await self._asking.ask_all(others, path, query)
        if answers:
            latest = max(answers, key=lambda answer: float(answer.headers.get(CREATED_HEADER, 0)))
            await close([answer for answer in answers if answer is not latest])
            return latest
        for silent in [*([] if failure is None else [failure]), *unanswered]:
            if silent.server.is_living:
                raise ApiError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{silent}, and may have the trace of {request_id!r}; try again",
                    "request_id",
                    retry_seconds=RETRY_SECONDS,
                )
        if failure is not None:
            raise not_found(f"the trace of {request_id!r} is lost with its server: {failure}", "request_id")
        ended = [server for server in self._replicas.others if not server.is_living]
        if ended:
            last = UnansweredError(max(ended, key=lambda server: server.heartbeat), "")
            raise not_found(
                f"no server has a trace of {request_id!r}: it had neither a policy nor `forks`, is too long ago, or "
                f"was on one of the {len(ended)} that ended within a day; of these {last}",
                "request_id",
            )
        return None

    async def position(self, request_id: str) -> Position | None:
        """Where another server has this request in its list."""
        answers, _ = await self._asking.ask_all(self._replicas.living, POSITION, {"id": request_id})
        try:
            return min([read_position((await answer.aread()).decode()) for answer in answers], default=None)
        except (httpx.HTTPError, ValueError):
            return None
        finally:
            await close(answers)

    async def rows(
        self, filters: Filters, limit: int, after: Position | None
    ) -> tuple[list[Page], Sequence[UnansweredError]]:
        """The pages of the other servers, and those servers that did not answer."""
        answers, unanswered = await self._asking.ask_all(self._replicas.living, ROWS, rows_query(filters, limit, after))
        try:
            bodies = [await answer.aread() for answer in answers]
            return [msgspec.json.decode(body, type=Page) for body in bodies], unanswered
        except (httpx.HTTPError, ValueError) as error:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, "another server stopped in its answer; try again", retry_seconds=1
            ) from error
        finally:
            await close(answers)


async def _relayed(answer: httpx.Response, stream: bool) -> Response:
    """The response with another server's answer. Raises ApiError (503) where that ends before its end."""
    if stream:
        return _RelayedStream(answer)
    return Response(await _body_of(answer), media_type="application/json")


async def _body_of(answer: httpx.Response) -> bytes:
    """Raises ApiError (503) where the answer ends before its end."""
    try:
        return await answer.aread()
    except httpx.HTTPError as error:
        raise _interrupted() from error
    finally:
        await answer.aclose()


class _RelayedStream(StreamingResponse):
    """An event stream as another server sends it; it ends there when its reader leaves here."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(_events(answer), media_type="text/event-stream", headers=HEADERS)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


async def _events(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    except httpx.HTTPError:
        yield event_of(msgspec.json.encode(error_object(_interrupted())))


def _interrupted() -> ApiError:
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE, "the server that has this trace stopped in its answer", "request_id"
    )
