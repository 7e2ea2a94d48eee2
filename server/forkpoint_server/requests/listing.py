"""The list of recent requests, `GET /v1/forks`: one row for each, running ones first, then the newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


def _after(entries: Sequence[Entry], after: str | None) -> Sequence[Entry]:
    if after is None:
        return entries
    key = canonical(after)
    for number, entry in enumerate(entries):
        if key in map(canonical, _ids(_request(entry))):
            return entries[number + 1 :]
    raise InputError("after", "names no recent request; start again without it")


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
