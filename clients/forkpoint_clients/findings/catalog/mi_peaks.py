"""Do hidden states say most about the answer where connectors are sampled?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Answer, Asker, ServerRefusesError
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.references import reference_text
from forkpoint_clients.evaluate.stats import ALPHA, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result, Table
from forkpoint_clients.findings.lab import Answers, CannotError, Lab, Reading, Treatment
from forkpoint_clients.findings.measures import clustered
from forkpoint_clients.findings.mutual_information import information
from forkpoint_clients.findings.rarity import NamedValues, beyond_rarity
from forkpoint_clients.findings.reading import traces
from forkpoint_clients.findings.verdict import Claim, Criterion
from forkpoint_clients.fitting.states import LAST_LAYER, read_states

MAX_STATES = 512
"""Of an answer, from its beginning: the authors' number of tokens."""

FEWEST_STATES = 20
"""An answer with fewer has no peaks."""

REACH_IQR = 1.5
MOST_TOKENS = 10
"""So many of the commonest tokens at peaks are listed."""


@dataclass(frozen=True)
class InformedText:
    """The reasoning of an answer: `tokens`, which are `connectors`, and the `information` of the states from which they
    were sampled, [n] each."""

    question: str
    tokens: tuple[str, ...]
    connectors: NDArray[np.bool_]
    information: Floats

    @property
    def peaks(self) -> NDArray[np.bool_]:
        """[n]: above the upper quartile by more than REACH_IQR interquartile ranges."""
        low, high = np.quantile(self.information, [0.25, 0.75])
        above: NDArray[np.bool_] = self.information > high + REACH_IQR * (high - low)
        return above

    @property
    def standardized(self) -> Floats:
        """[n]: in standard deviations from the text's mean."""
        centred: Floats = self.information - self.information.mean()
        spread = float(centred.std())
        return centred / spread if spread else centred


async def read_information(asker: Asker, item: Item, answer: Answer) -> list[float]:
    """The information of the states of an answer's first positions about its reference answer.

    Raises CannotError for a question without a reference, or if the server reads no states.
    """
    reference = reference_text(item)
    if not reference:
        raise CannotError(f"needs a reference answer as a text, which {item.id!r} has not")
    try:
        alone = await asker.client.post(
            "/forks",
            body={"model": asker.model, "prompt": reference, "completion": "\n"},
            cast_to=dict[str, Any],
        )
        gold = await read_states(asker, alone["id"], [{}], 1, [LAST_LAYER])
        own = await read_states(asker, str(answer.response_id), [{}], MAX_STATES, [LAST_LAYER])
    except openai.APIError as error:
        raise CannotError(f"POST /v1/forks: {asker.reason(error)}") from None
    except ServerRefusesError as error:
        raise CannotError(str(error)) from None
    states = own.layers[LAST_LAYER].astype(np.float64)
    found = await asyncio.to_thread(information, states, gold.layers[LAST_LAYER][0].astype(np.float64))
    return [float(value) for value in found]


INFORMED = Treatment(
    "no policy, with states", "observe", traced=True, reading=Reading("mutual_information", read_information)
)


async def retest(lab: Lab) -> Result:
    return conclude((await lab.ask([INFORMED], lab.setting.verified, 1))[INFORMED.name])


def conclude(answers: Answers, alpha: float = ALPHA) -> Result:
    """The result of traced answers whose states were read."""
    texts = list(informed(answers))
    if not texts:
        return Result((), notes=(f"No answer has a whole trace with {FEWEST_STATES} tokens of reasoning.",))
    count, level = len({text.question for text in texts}), alpha / 2
    peaks, covered = beyond_rarity([_named(text, text.peaks.astype(np.float64)) for text in texts], level)
    heights, _ = beyond_rarity([_named(text, text.standardized) for text in texts], level)
    claim = Claim(
        "Peaks of the information about the answer fall on connectors more than on other tokens that are as rare.",
        "arXiv:2506.02867, which compares them with no other tokens",
        (
            Criterion(
                "share of connectors at a peak, less that of tokens sampled as rarely",
                peaks, "above", 0.0, count, "points", level,
            ),
            Criterion(
                "information at connectors, less that at tokens sampled as rarely, in standard deviations of a text",
                heights, "above", 0.0, count, "number", level,
            ),
        ),
    )  # fmt: skip
    questions = [text.question for text in texts]
    shares = {
        "of all tokens": [text.peaks.mean() for text in texts],
        "of connectors": [_mean(text.peaks[text.connectors]) for text in texts],
        "of other tokens": [_mean(text.peaks[~text.connectors]) for text in texts],
    }
    found = {
        name: clustered(
            [value for value in values if np.isfinite(value)],
            [question for question, value in zip(questions, values, strict=True) if np.isfinite(value)],
        )
        for name, values in shares.items()
    }
    return Result(
        (claim,),
        figures=tuple(Figure(f"share at a peak, {name}", estimate, "points") for name, estimate in found.items()),
        tables=(_at_peaks(texts),),
        plots=(
            plots.intervals("mi-peaks", "The share of tokens at a peak of the information.", found, "share, %", 100),
        ),
        notes=(
            (
                f"{100 * covered:.0f}% of the connectors have other tokens to be compared with, sampled half to twice "
                "as often. Without them a peak at connectors would say nothing about connectors: it may be at any rare "
                "token."
            ),
            (
                "The states are those of the last layer after its norm, and the reference is the reference answer "
                "alone; the authors take several layers, and worked solutions. A peak is an outlier by Tukey's rule, "
                "which is ours."
            ),
        ),
    )


def informed(answers: Answers) -> Iterator[InformedText]:
    """The reasoning of each answer with a whole trace; all of its text, if it has none."""
    for key, scored in answers.items():
        for trace in traces({key: scored}):
            values = np.array((scored.answer.forkpoint or {}).get("mutual_information", []), np.float64)
            inside = trace.in_reasoning if trace.in_reasoning.any() else np.ones(len(trace.tokens), np.bool_)
            at = np.flatnonzero(inside[: len(values)])
            if len(at) >= FEWEST_STATES:
                tokens = tuple(trace.tokens[place] for place in at)
                yield InformedText(trace.question, tokens, trace.connectors[at], values[at])


def _named(text: InformedText, values: Floats) -> NamedValues:
    return NamedValues(text.question, text.tokens, text.connectors, values)


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _at_peaks(texts: list[InformedText]) -> Table:
    every = Counter(token for text in texts for token in text.tokens)
    peaks = Counter(
        token for text in texts for token, peak in zip(text.tokens, text.peaks, strict=True) if peak
    )  # fmt: skip
    rows = tuple(
        (repr(token), str(times), str(every[token]), f"{100 * times / every[token]:.1f}%")
        for token, times in peaks.most_common(MOST_TOKENS)
    )
    return Table("The commonest tokens at peaks", ("token", "at peaks", "in all", "share"), rows)


FINDING = Finding(
    name="mi-peaks",
    question="Do hidden states say most about the answer where connectors are sampled?",
    claim="The mutual information between hidden states and the answer peaks at few tokens, mostly thinking words.",
    source="arXiv:2506.02867",
    protocol=(
        f"The states from which the first {MAX_STATES} tokens of answers without a policy are sampled, and the state "
        "after the reference answer as a text of its own; the authors' estimate of their mutual information. A peak is "
        f"{REACH_IQR} interquartile ranges above the upper quartile of its text. Connectors are compared with other "
        "tokens that are sampled as rarely. On few questions: the model writes each answer twice."
    ),
    retest=retest,
)
