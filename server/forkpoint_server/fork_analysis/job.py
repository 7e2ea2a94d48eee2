"""The job of one `POST /v1/forks`: tokenise the text, measure it, verify its forks, and store the trace."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from forkpoint_server.engine.engine import InterveningEngine
from forkpoint_server.requests.client_id import client_id
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import random_uuid

from .measure import EngineSession, measure
from .report import ForkAnalysis
from .request import ForksRequest, max_continuation_tokens, parse_request
from .tokenize import Text, TextReader
from .verify import select_forks, verify

OnProgress = Callable[[dict[str, Any]], None]
"""Called with a `forks.progress` object."""


@dataclass
class Job:
    """A text to analyse; call `run` once."""

    service: Service
    request: ForksRequest
    text: Text
    max_tokens: int
    session: EngineSession
    client_id: str | None = None
    on_progress: OnProgress = lambda _: None

    @property
    def name(self) -> str:
        return self.session.name

    async def run(self) -> ForkAnalysis:
        """Run the analysis. Raises ApiError (503) if there is no exact answer."""
        request = self.request
        context = await self.service.open_context(
            None, RequestOptions(forks=True), model_name=self.service.config.model_label(request.model)
        )
        assert context is not None
        progress = self._progress("measuring", len(self.text.tokens))
        cost = await measure(
            self.session, context, self.text, request.alternatives, progress, everywhere=request.positions is not None
        )
        context.response_id, context.client_id = self.name, self.client_id
        verification = None
        if request.verify is not None:
            forks, num_above = select_forks(context, request)
            ways = sum(len(fork.alternatives) for fork in forks if fork.tried)
            progress = self._progress("verifying", ways * request.verify)
            seed = secrets.randbits(62) if request.seed is None else request.seed
            verification = await verify(
                self.session, context, self.text, request, forks, num_above, seed, self.max_tokens, progress
            )
        analysis = ForkAnalysis(context.finished(), len(self.text.prompt), cost, verification)
        num_bytes = 0 if verification is None else verification.num_bytes
        self.service.recent.store(analysis.request, analysis.to_dict, num_bytes)
        return analysis

    def _progress(self, phase: str, total: int) -> Callable[[int], None]:
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            self.on_progress(
                {"id": self.name, "object": "forks.progress", "phase": phase, "done": done, "total": total}
            )

        progress(0)
        return progress


async def prepare(service: Service, body: Any, raw_request: Request) -> Job:
    """Parse and tokenise a request. Raises InputError for a wrong field, and RenderingError with vLLM's error."""
    request = parse_request(body)
    state = raw_request.app.state
    engine: InterveningEngine = state.engine_client
    stops = service.config.stop_tokens
    text = await TextReader(state.serving_tokenization, service.model, stops, raw_request).read(request)
    max_tokens = max_continuation_tokens(request, len(text.tokens))
    lora = state.openai_serving_models.lora_requests.get(request.model)
    session = EngineSession(
        engine, engine.background_budget(), f"forks-{random_uuid()}", lora, engine.rank_options(), stops
    )
    return Job(service, request, text, max_tokens, session, client_id(raw_request.headers, {}))
