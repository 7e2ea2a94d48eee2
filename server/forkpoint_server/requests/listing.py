"""The list of recent requests, `GET /v1/forks`: one row for each, running ones first, then the newest."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from forkpoint_policies.spec import InputError
from forkpoint_server.traces.detokenize import Detokenizer

from .context import Reported, RequestContext
from .figures import Figures, num_tokens_of
from .finished import FinishedRequest
from .prompt_start import MAX_CHARACTERS
from .recent import StoredTrace, canonical

NONE = "none"
"""The filter for requests without a policy."""


@dataclass(frozen=True)
class Filters:
    """Which requests to list; None: any. `text` is looked for in the prompt's start, in either case."""

    policy: str | None = None
    experiment: str | None = None
    arm: str | None = None
    finish_reason: str | None = None
    running: bool | None = None
    text: str | None = None

    def accept(self, request: Reported) -> bool:
        running = isinstance(request, RequestContext)
        return (
            (self.running is None or self.running == running)
            and (self.policy is None or self.policy == (request.applied.name or NONE))
            and (self.experiment is None or self.experiment == request.experiment)
            and (self.arm is None or self.arm == request.arm_name)
            and (self.finish_reason is None or self.finish_reason in request.finish_reasons)
            and (self.text is None or self.text.casefold() in _prompt(request).casefold())
        )


Entry = RequestContext | StoredTrace
"""A request that runs, or one that has ended."""


def list_requests(entries: Sequence[Entry], filters: Filters, limit: int, after: str | None) -> dict[str, Any]:
    """A page of at most `limit` rows: those after the request `after`, or the first. Raises InputError for an unknown
    `after`.

    It may run in a thread: of a running request it reads no records, which arrive meanwhile.
    """
    rows: list[dict[str, Any]] = []
    for entry in _after(entries, after):
        request = _request(entry)
        if not filters.accept(request):
            continue
        if len(rows) == limit:
            return _page(rows, has_more=True)
        rows.append(_row(request, entry.figures if isinstance(entry, StoredTrace) else None))
    return _page(rows, has_more=False)


class Position(NamedTuple):
    """Where a request stands in the list of several servers. `age`: minus the time at which it started, or ended."""

    ended: bool
    age: float  # seconds since 1970, negative
    id: str


class Page(NamedTuple):
    """Rows of one server with their positions, and whether more follow."""

    rows: list[dict[str, Any]]
    positions: list[Position]
    has_more: bool


def position_of(entry: Entry) -> Position:
    """The position of one request; its id tells it from those of the same moment."""
    request = _request(entry)
    seconds = request.seconds if isinstance(request, FinishedRequest) else 0.0
    return Position(isinstance(request, FinishedRequest), -(request.created + seconds), _ids(request)[0])


def page_after(entries: Sequence[Entry], filters: Filters, limit: int, after: Position | None) -> Page:
    """The first `limit` rows after a position, which may be another server's. It may run in a thread."""
    placed = sorted(((position_of(entry), entry) for entry in entries), key=lambda one: one[0])
    page = Page([], [], False)
    for position, entry in placed:
        request = _request(entry)
        if (after is not None and position <= after) or not filters.accept(request):
            continue
        if len(page.rows) == limit:
            return page._replace(has_more=True)
        page.rows.append(_row(request, entry.figures if isinstance(entry, StoredTrace) else None))
        page.positions.append(position)
    return page


def merge_pages(pages: Sequence[Page], limit: int) -> dict[str, Any]:
    """The page that the pages of several servers make."""
    merged = heapq.merge(*(zip(page.positions, page.rows, strict=True) for page in pages), key=lambda one: one[0])
    rows = [row for _, row in merged]
    return _page(rows[:limit], has_more=len(rows) > limit or any(page.has_more for page in pages))


def _after(entries: Sequence[Entry], after: str | None) -> Sequence[Entry]:
    if after is None:
        return entries
    place = find_entry(entries, after)
    if place is None:
        raise unknown_after()
    return entries[place + 1 :]


def find_entry(entries: Sequence[Entry], request_id: str) -> int | None:
    """The index of the first request with this id."""
    key = canonical(request_id)
    found = (number for number, entry in enumerate(entries) if key in map(canonical, _ids(_request(entry))))
    return next(found, None)


def unknown_after() -> InputError:
    """The error for an `after` that names no request."""
    return InputError("after", "names no recent request; start again without it")


def _request(entry: Entry) -> Reported:
    return entry.request if isinstance(entry, StoredTrace) else entry


def _page(rows: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    ids = [row["id"] for row in rows]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": rows, "first_id": first, "last_id": last, "has_more": has_more}


def _row(request: Reported, figures: Figures | None) -> dict[str, Any]:
    """One request, with its figures if it has ended."""
    tree = request.tree
    return {
        "object": "trace.row",
        "id": _ids(request)[0],
        "created": round(request.created, 3),
        "running": figures is None,
        "seconds": round(request.seconds, 3) if isinstance(request, FinishedRequest) else None,
        "model": request.model_name,
        "policy": request.applied.name,
        "digest": request.applied.digest,
        "shadow": request.applied.shadow,
        "experiment": request.experiment,
        "arm": request.arm_name,
        "prompt": _prompt(request),
        "answers": len(request.traces) if tree is None else tree.num_answers,
        "tokens": num_tokens_of(request),
        "forks": None if figures is None else figures.num_forks,
        "forks_share": None if figures is None else figures.forks_share,
        "effect": None if figures is None else round(figures.effect, 4),
        "finish_reasons": list(request.finish_reasons),
    }


def _ids(request: Reported) -> tuple[str, ...]:
    """Its ids, that of the response first."""
    return tuple(one for one in (request.response_id, request.engine_id, request.client_id) if one)


def _prompt(request: Reported) -> str:
    """The start of what the user wrote, or of the prompt as the model sees it."""
    if request.prompt_start is not None:
        return request.prompt_start
    tokens = request.traces[0].prompt[:MAX_CHARACTERS] if request.traces else ()
    return Detokenizer(request.vocabulary).text(tokens)[:MAX_CHARACTERS]
