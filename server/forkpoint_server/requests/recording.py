"""What is recorded of each request of an experiment. No text is, and the unit only as its salted hash."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from forkpoint_server import metrics
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.store.recorder import SERVER, Recorder

from .context import RequestContext


class Attendance:
    """One request of an experiment, from its assignment to its end."""

    def __init__(self, intervention: RequestContext, experiments: Experiments, recorder: Recorder) -> None:
        assert intervention.enrolment is not None
        self._intervention = intervention
        self._experiments = experiments
        self._recorder = recorder
        self._ticket = experiments.begin(intervention.enrolment)
        self._created = time.time()
        self._began = time.monotonic()

    def end(self, failed: bool, left: bool, streamed_id: str | None) -> None:
        """Record the request, whatever became of it, unless the engine found that it could not be in the experiment.

        `left`: its client did, before the end; `streamed_id`: the response's id as far as a stream told it then.
        """
        self._experiments.end(self._ticket)
        one = self._intervention
        if one.enrolment is None:
            return
        ending = "error" if failed else ending_of([*one.endings, *(["abort"] if left else [])])
        labels = one.enrolment.live.stored.name, one.enrolment.arm.name
        metrics.ASSIGNED.labels(*labels).inc()
        metrics.FAILED.labels(*labels).inc(int(ending == "error"))
        request_id = one.response_id or streamed_id or f"unanswered-{secrets.token_hex(12)}"
        self._recorder.put(
            {
                "experiment": one.enrolment.live.stored.id,
                "request_id": request_id,
                "server": SERVER,
                "arm": one.enrolment.arm.name,
                "unit": one.enrolment.unit - 2**63,
                "epoch": one.enrolment.live.stored.now.number,
                "stratum": one.enrolment.stratum,
                "created": self._created,
                "latency_seconds": time.monotonic() - self._began,
                "finish_reason": ending,
                "error": int(ending == "error"),
                "truncated": int(ending == "length"),
                **one.recorded(),
            }
        )


def ending_of(endings: Sequence[str]) -> str:
    """How a request has ended, of whose choices these are the endings: as the worst of them; without any it has failed."""
    return next((one for one in ("error", "abort", "length") if one in endings), endings[0] if endings else "error")
