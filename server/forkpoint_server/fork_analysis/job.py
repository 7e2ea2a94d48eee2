"""The work of one `POST /v1/forks`: read the text, measure it, verify its forks, and keep what was found."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from forkpoint_server.engine.engine import InterveningEngine
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import random_uuid

from .measure import Run, measure
from .report import Measured
from .request import Asked, longest_continuation, parse_asked
from .tokenize import Reader, Text
from .verify import chosen_forks, verify

Tell = Callable[[dict[str, Any]], None]
"""Told how far the work is."""


@dataclass
class Work:
    """A text that can be measured, and how far that is; `run` may be called once."""

    service: Service
    asked: Asked
    text: Text
    longest: int
    engine: Run
    tell: Tell = lambda _: None

    @property
    def name(self) -> str:
        return self.engine.name

    async def run(self) -> Measured:
        """Do it. Raises ApiError (503) where there is no exact answer."""
        asked = self.asked
        intervention = await self.service.open_context(None, forks=True)
        assert intervention is not None
        progress = self._progress("measuring", len(self.text.tokens))
        cost = await measure(
            self.engine, intervention, self.text, asked.alternatives, progress, everywhere=asked.positions is not None
        )
        intervention.response_id = self.name
        verification = None
        if asked.verify is not None:
            forks, above = chosen_forks(intervention, asked)
            progress = self._progress("verifying", sum(len(fork.ways) for fork in forks) * asked.verify)
            seed = secrets.randbits(62) if asked.seed is None else asked.seed
            verification = await verify(
                self.engine, intervention, self.text, asked, forks, above, seed, self.longest, progress
            )
        measured = Measured(intervention, len(self.text.prompt), cost, verification)
        self.service.recent.store(self.name, intervention.traces, measured.report)
        return measured

    def _progress(self, phase: str, total: int) -> Callable[[int], None]:
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            self.tell({"id": self.name, "object": "forks.progress", "phase": phase, "done": done, "total": total})

        progress(0)
        return progress


async def prepare(service: Service, body: Any, request: Request) -> Work:
    """Read what was asked. Raises InputError for what cannot be, and RenderingError with what vLLM says."""
    asked = parse_asked(body)
    state = request.app.state
    engine: InterveningEngine = state.engine_client
    stops = service.config.stop_tokens
    text = await Reader(state.serving_tokenization, service.model, stops, request).read(asked)
    longest = longest_continuation(asked, len(text.tokens))
    lora = state.openai_serving_models.lora_requests.get(asked.model)
    run = Run(engine, engine.background_budget(), f"forks-{random_uuid()}", lora, engine.rank_options(), stops)
    return Work(service, asked, text, longest, run)
