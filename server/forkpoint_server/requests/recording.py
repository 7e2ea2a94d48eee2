"""What is recorded of each request of an experiment: no text, and the unit only as its salted hash."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence

from forkpoint_server import metrics
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.store.assignments import can_be_stored
from forkpoint_server.store.recorder import SERVER, Recorder
from forkpoint_server.store.tables import MAX_ID_LENGTH, MAX_RESPONSE_ID_LENGTH

from .context import RequestContext
from .summary import experiment_record

PREFIX = re.compile(r"[a-z]+-")
REFUSED = "refused"
"""How a request has ended that the server answered with a 4xx."""


class ExperimentRecording:
    """One request of an experiment, from its assignment to its end."""

    def __init__(self, context: RequestContext, experiments: Experiments, recorder: Recorder) -> None:
        self._context = context
        self._experiments = experiments
        self._recorder = recorder
        assert context.enrolment is not None
        self._ticket = experiments.start_request(context.enrolment)

    def end(self, failed: bool, refused: bool, disconnected: bool, streamed_id: str | None) -> None:
        """Record the request however it ended, unless the engine has taken it out of the experiment.

        `failed`: the server's fault. `refused`: the client's, a 4xx, which does not count against the arm.
        `disconnected`: the client left before the end; `streamed_id`: the response's id as far as a stream has sent it.
        """
        self._experiments.end_request(self._ticket)
        context = self._context
        if context.enrolment is None:
            return
        if failed or refused:
            ending = "error" if failed else REFUSED
        else:
            ending = worst_of([*context.finish_reasons, *(["abort"] if disconnected else [])])
        response_id, attempt = _storable(context.response_id or streamed_id), secrets.token_hex(12)
        stored, arm = context.enrolment.live.stored, context.enrolment.arm
        metrics.ASSIGNED.labels(context.model_name, stored.name, arm.name).inc()
        metrics.FAILED.labels(context.model_name, stored.name, arm.name).inc(int(ending == "error"))
        self._recorder.put(
            {
                "experiment": stored.id,
                "request_id": _storable(context.client_id, MAX_ID_LENGTH) or response_id or f"unanswered-{attempt}",
                "response_id": response_id,
                "attempt": attempt,
                "server": SERVER,
                "arm": arm.name,
                "unit": context.enrolment.unit - 2**63,
                "epoch": stored.now.number,
                "stratum": context.enrolment.stratum,
                "created": context.created,
                "latency_seconds": time.monotonic() - context.started_at,
                "finish_reason": ending,
                "error": int(ending == "error"),
                "truncated": int(ending == "length"),
                **experiment_record(context),
            }
        )


def _storable(request_id: str | None, max_length: int = MAX_RESPONSE_ID_LENGTH) -> str | None:
    """An id, unless no database can hold it, or it is what vLLM makes of an empty X-Request-Id: not of one request."""
    if request_id is None or PREFIX.fullmatch(request_id) or not can_be_stored(request_id, max_length):
        return None
    return request_id


def worst_of(finish_reasons: Sequence[str]) -> str:
    """How a request has ended: as the worst of its choices. A request without choices has failed."""
    worst = (reason for reason in ("error", "abort", "length") if reason in finish_reasons)
    return next(worst, finish_reasons[0] if finish_reasons else "error")
