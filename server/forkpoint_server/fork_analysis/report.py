"""The response of `POST /v1/forks`, also stored for `GET /v1/forks/{id}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forkpoint_server.requests.finished import FinishedRequest
from forkpoint_server.requests.serialize import trace_to_dict
from forkpoint_server.traces.detokenize import Detokenizer

from .measure import Cost
from .significance import Verdict
from .verify import NO_ANSWER, TRUNCATED, Alternative, Fork, Verification


@dataclass(frozen=True)
class ForkAnalysis:
    """A text's trace, its cost and, if requested, which of its forks are verified."""

    request: FinishedRequest
    prompt_tokens: int
    cost: Cost
    verification: Verification | None = None

    def to_dict(self) -> dict[str, Any]:
        """The trace in the format of a generated text's, with verdicts in its fork points, and costs."""
        trace = trace_to_dict(self.request)
        verification = self.verification
        cost = self.cost if verification is None else self.cost + verification.cost
        trace["prompt_tokens"] = self.prompt_tokens
        trace["cost"] = {"requests": cost.requests, "tokens": cost.tokens}
        if verification is not None:
            verdicts = {
                fork.index: self._verified(fork, verdict)
                for fork, verdict in zip(verification.forks, verification.verdicts, strict=True)
            }
            for point in trace["fork_points"]:
                point["verified"] = verdicts.get(point["index"])
            trace["verification"] = _settings(verification)
            if verification.request.positions is not None:
                trace["verification"]["positions"] = [
                    self._position(index, verdict) for index, verdict in verdicts.items()
                ]
        return trace

    def _position(self, index: int, verdict: dict[str, Any]) -> dict[str, Any]:
        """A requested position, above the threshold or not."""
        trace = self.request.traces[0]
        profile, texts = trace.profile(), Detokenizer(self.request.vocabulary)
        alternatives = profile.alternatives[index]
        return {
            "index": index,
            **texts.to_dict(trace.tokens[index]),
            "entropy": round(float(profile.entropy[profile.position == index][0]), 4),
            "alternatives": [
                {**texts.to_dict(token), "probability": round(probability, 6)}
                for token, probability in zip(alternatives.tokens, alternatives.probabilities, strict=True)
            ],
            "verified": verdict,
        }

    def _verified(self, fork: Fork, verdict: Verdict) -> dict[str, Any]:
        return {
            "p": float(f"{verdict.p:.4g}"),
            "q": float(f"{verdict.q:.4g}"),
            "verified": verdict.verified,
            "outcomes": [self._outcomes(alternative) for alternative in fork.alternatives],
        }

    def _outcomes(self, alternative: Alternative) -> dict[str, Any]:
        answers = {answer: count for answer, count in alternative.outcomes.most_common() if isinstance(answer, str)}
        return {
            **Detokenizer(self.request.vocabulary).to_dict(alternative.token),
            "answers": answers,
            "truncated": alternative.outcomes[TRUNCATED],
            "unanswered": alternative.outcomes[NO_ANSWER],
        }


def _settings(verification: Verification) -> dict[str, Any]:
    request, cost = verification.request, verification.cost
    return {
        "forks": verification.num_above,
        "tried": sum(fork.tried for fork in verification.forks),
        "verified": sum(verdict.verified for verdict in verification.verdicts),
        "continuations": request.verify,
        "alternatives": request.alternatives,
        "min_probability": request.min_probability,
        "extract": request.extract,
        "max_tokens": verification.max_tokens,
        "temperature": request.temperature,
        "seed": verification.seed,
        "fdr": request.fdr,
        "cost": {"requests": cost.requests, "tokens": cost.tokens},
    }
