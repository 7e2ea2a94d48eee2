"""The tokens of a stored answer: this server's, or another one's, which the model here can write again as well."""

from __future__ import annotations

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import not_found
from forkpoint_server.replicas.questions import StoredTokens
from forkpoint_server.requests.finished import FinishedRequest
from forkpoint_server.service import Service


async def find_tokens(service: Service, request_id: str, number: int) -> StoredTokens:
    """The answer of this number among those of a request to a model that this server serves.

    Raises ApiError where it is not stored (404), or on a server that does not answer (503), and InputError where it
    cannot be written again: it is one of a tree, is empty, or is another model's.
    """
    stored = await service.recent.settled(request_id)
    if stored is not None:
        found: StoredTokens | None = stored_tokens(stored.request, number)
    else:
        found = None if service.forwarding is None else await service.forwarding.tokens(request_id, number)
    if found is None:
        message = f"there is no trace of {request_id!r}: it had neither a policy nor `forks`, or is too long ago"
        raise not_found(message, "request_id")
    if found.branches:
        raise InputError("request_id", "is of a policy that branches; read the states of answers to one without")
    if number >= found.num_answers:
        raise InputError("choice", f"must be below {found.num_answers}, the number of answers")
    if not found.tokens:
        raise InputError("choice", "has no tokens")
    served = service.config.served_models()
    if stored is None and found.model not in served:
        raise InputError(
            "request_id", f"is of {found.model!r}, which this server does not serve; it serves {', '.join(served)}"
        )
    return found


def stored_tokens(request: FinishedRequest, number: int) -> StoredTokens:
    """The tokens of one answer of a stored request."""
    own = request.traces[number] if number < len(request.traces) else None
    return StoredTokens(
        model=request.model_name,
        branches=request.tree is not None,
        num_answers=len(request.traces),
        prompt=[] if own is None else list(own.prompt),
        tokens=[] if own is None else list(own.tokens),
    )
