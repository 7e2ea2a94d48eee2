"""What `POST /v1/forks` answers, and keeps for `GET /v1/forks/{id}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.serialize import trace_to_dict

from .measure import Cost
from .significance import Verdict
from .verify import TRUNCATED, UNANSWERED, Fork, Verification, Way


@dataclass(frozen=True)
class Measured:
    """A given text's trace, what it cost, and which of its forks are verified, where that was asked for."""

    intervention: RequestContext
    prompt_tokens: int
    cost: Cost
    verification: Verification | None = None

    def report(self) -> dict[str, Any]:
        """The trace as that of a generated text, with the verdicts in its fork points, and the costs."""
        told = trace_to_dict(self.intervention)
        verification = self.verification
        cost = self.cost if verification is None else self.cost + verification.cost
        told["prompt_tokens"] = self.prompt_tokens
        told["cost"] = {"requests": cost.requests, "tokens": cost.tokens}
        if verification is not None:
            verdicts = {
                fork.index: self._verified(fork, verdict)
                for fork, verdict in zip(verification.forks, verification.verdicts, strict=True)
            }
            for point in told["fork_points"]:
                point["verified"] = verdicts.get(point["index"])
            told["verification"] = _settings(verification)
            if verification.asked.positions is not None:
                told["verification"]["positions"] = [self._place(index, verdict) for index, verdict in verdicts.items()]
        return told

    def _place(self, index: int, verdict: dict[str, Any]) -> dict[str, Any]:
        """A position that was asked for, whether it is above the threshold or not."""
        trace = self.intervention.traces[0]
        profile, vocabulary = trace.profile(), self.intervention.model.vocabulary
        alternatives = profile.alternatives[index]
        return {
            "index": index,
            "token": vocabulary.tokens[trace.tokens[index]].decode(errors="replace"),
            "entropy": round(float(profile.entropy[profile.position == index][0]), 4),
            "alternatives": [
                {"token": vocabulary.tokens[token].decode(errors="replace"), "probability": round(probability, 6)}
                for token, probability in zip(alternatives.tokens, alternatives.probabilities, strict=True)
            ],
            "verified": verdict,
        }

    def _verified(self, fork: Fork, verdict: Verdict) -> dict[str, Any]:
        return {
            "p": float(f"{verdict.p:.4g}"),
            "q": float(f"{verdict.q:.4g}"),
            "verified": verdict.verified,
            "outcomes": [self._outcomes(way) for way in fork.ways],
        }

    def _outcomes(self, way: Way) -> dict[str, Any]:
        answers = {answer: count for answer, count in way.outcomes.most_common() if isinstance(answer, str)}
        return {
            "token": self.intervention.model.vocabulary.tokens[way.token].decode(errors="replace"),
            "token_id": way.token,
            "answers": answers,
            "truncated": way.outcomes[TRUNCATED],
            "unanswered": way.outcomes[UNANSWERED],
        }


def _settings(verification: Verification) -> dict[str, Any]:
    asked, cost = verification.asked, verification.cost
    return {
        "forks": verification.above,
        "tried": len(verification.forks),
        "verified": sum(verdict.verified for verdict in verification.verdicts),
        "continuations": asked.verify,
        "alternatives": asked.alternatives,
        "extract": asked.extract,
        "max_tokens": verification.longest,
        "temperature": asked.temperature,
        "seed": verification.seed,
        "fdr": asked.fdr,
        "cost": {"requests": cost.requests, "tokens": cost.tokens},
    }
