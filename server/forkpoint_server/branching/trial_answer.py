"""Trial answers: how they start and are sampled, what one says, and how sure the model was of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.spec import AnswerSpan, Probe
from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_server.answers import read_answer
from forkpoint_server.requests.tree import Node

from .choice_output import text_of
from .interface import Choice, TreeControl, TreeRequest, TrialAnswer, TrialSampling
from .top_entropy import top_entropy
from .trial_start import TrialStart


def start_trial(runner: TreeControl, probe: Probe, choice: Choice, start: TrialStart) -> Choice | None:
    """Start a trial answer of a choice; None, counted as refused, while as many run as the request may have answers."""
    request = runner.request
    if sum(other.node.kind == "probe" for other in runner.running) >= request.max_answers:
        runner.tree.num_refused += 1
        return None
    return runner.start_child(
        choice,
        start.position,
        request.trial.following(start.kept, request.encode),
        kind="probe",
        trial=sampling_of(probe, request.regions.reasoning_end),
    )


def sampling_of(probe: Probe, reasoning_end: Sequence[int]) -> TrialSampling:
    """How a probe's trial answers are sampled; `reasoning_end` are the tokens of the end marker."""
    ends_itself = probe.span is not None and probe.span.needs_end and len(reasoning_end) == 1
    return TrialSampling(
        max_tokens=probe.tokens,
        stop=probe.stop,
        stop_token_ids=tuple(reasoning_end) if ends_itself else (),
        temperature=probe.temperature,
        top_p=probe.top_p,
        presence_penalty=probe.presence_penalty,
    )


async def read_trial(request: TreeRequest, probe: Probe, trial: Choice) -> TrialAnswer | None:
    """What the probe's extractor finds in its text and the trial answer after it; None if there is nothing, one of the
    words that it rejects, or a box that the probe opens and the trial answer does not close."""
    own = text_of(trial.node.trace.tokens, request.vocabulary, request.params)
    if any(word.lower() in own.lower() for word in probe.rejects):
        return None
    box = extractor("boxed_text")(probe.text + own)
    if box is None and _num_open_braces(probe.text):
        return None
    compared = await read_answer(probe.extract, probe.text + own)
    return None if compared is None else TrialAnswer(compared, box or compared)


def confidence_of_trial(request: TreeRequest, probe: Probe, trial: Choice) -> float:
    """From 0 to 1: the mean over the trial answer's span; 0 if nothing is known of it."""
    span, trace = probe.span or AnswerSpan(), trial.node.trace
    if span.needs_end and not _ends_reasoning(request, trace.tokens):
        return 0.0
    values = _by_token(trial.node, entropy=span.mean == "entropy", sampled=probe.temperature > 0)
    if span.until == "closing_brace":
        values = values[: _tokens_until_closing_brace(request, probe.text, trace.tokens)]
    values = values[span.skip :]
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0
    if span.mean == "geometric":
        return float(np.exp(np.log(np.maximum(known, 1e-10)).mean()))
    if span.mean == "entropy":
        return float(1 - known.mean() / math.log(request.vocabulary.size))
    return float(known.mean())


def end_margin(trunk: Node, position: int, trial: Choice, end_token: int) -> float:
    """In nats, by how much the likeliest token at a position of the trunk leads the end of the reasoning in place of
    the trial answer's first token; infinite where that is not among the likeliest there."""
    profile, found = trunk.trace.profile(), trial.node.trace.alternatives(trial.node.first_position)
    at = int(np.searchsorted(profile.position, position))
    if found is None or end_token not in found.tokens or profile.position[at : at + 1].tolist() != [position]:
        return math.inf
    end = found.probabilities[found.tokens.index(end_token)]
    top = float(profile.top_probability[at])
    return math.inf if end <= 0 else math.log(top) - math.log(end)


def end_rank(request: TreeRequest, trunk: Node, position: int) -> float:
    """The least rank that the end of the reasoning is known not to exceed at a position of the trunk; infinite beyond
    the ranks that the policy tells apart."""
    profile = trunk.trace.profile()
    at = int(np.searchsorted(profile.position, position))
    if profile.position[at : at + 1].tolist() != [position]:
        return math.inf
    return min((rank for rank, rule in request.rank_rules if profile.fired[at, rule]), default=math.inf)


def step_entropy_bits(node: Node, begin: int, end: int) -> float:
    """The mean over the tokens at positions [begin, end), in bits, of the entropy of each one's likeliest tokens,
    renormalised; infinite if nothing is known of them."""
    found = [known for at in range(begin, end) if (known := node.trace.alternatives(at)) is not None]
    return float(np.mean([top_entropy(one.probabilities) for one in found])) / math.log(2) if found else math.inf


def ranks_hold(ladders: Sequence[Sequence[int]], ranks: Sequence[float]) -> bool:
    """Whether the last ranks, in the order of their positions, are within one of the lists, the last rank within its
    first number."""
    return any(
        len(ranks) >= len(ladder) and all(rank <= most for rank, most in zip(reversed(ranks), ladder, strict=False))
        for ladder in ladders
    )


@dataclass
class MovingVariance:
    """The exponential moving mean and variance of a sequence that starts with `mean`, as in the code of
    arXiv:2509.26522: each deviation is from the mean that already has the value in it."""

    mean: float
    variance: float = 0.0

    def add(self, value: float, smoothing: float) -> None:
        self.mean += smoothing * (value - self.mean)
        self.variance = smoothing * (value - self.mean) ** 2 + (1 - smoothing) * self.variance


def _by_token(node: Node, entropy: bool, sampled: bool) -> NDArray[np.float64]:
    """[n], of each of the trial answer's tokens: its probability, or the entropy (nats); NaN if unknown."""
    values = np.full(len(node.trace.tokens), np.nan)
    if sampled and not entropy:
        known = np.array(node.trace.raw_logprobs)[: len(values)]
        values[: len(known)] = np.exp(known)
        return values
    profile = node.trace.profile()
    values[profile.position - node.first_position] = profile.entropy if entropy else profile.top_probability
    return values


def _ends_reasoning(request: TreeRequest, tokens: Sequence[int]) -> bool:
    end = list(request.regions.reasoning_end)
    return bool(end) and list(tokens[-len(end) :]) == end


def _tokens_until_closing_brace(request: TreeRequest, before: str, tokens: Sequence[int]) -> int:
    """How many tokens there are up to the one that closes the brace which is open after `before`, or opened first."""
    depth = _num_open_braces(before)
    for number, token in enumerate(tokens, 1):
        for character in text_of([token], request.vocabulary, request.params):
            depth += (character == "{") - (character == "}")
            if character == "}" and depth <= 0:
                return number
    return len(tokens)


def _num_open_braces(text: str) -> int:
    return max(0, text.count("{") - text.count("}"))
