"""What a trial answer says, and how sure the model was of it."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from vllm.sampling_params import SamplingParams

from forkpoint_policies.spec import Probe
from forkpoint_policies.spec.answer_extractors import COMPUTED, EXTRACTORS
from forkpoint_server.branching.choice_output import ChoiceOutput
from forkpoint_server.branching.interface import Choice, TreeRequest
from forkpoint_server.branching.trial_answer import MovingVariance, confidence_of_trial, end_margin, read_trial
from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import END_THINK, TARGET, VOCABULARY, encode, tokens

from .stub_engine import A, B, record

PROBABILITIES = (0.1, 0.9, 0.8, 0.5)
PARAMS = SamplingParams()


def request() -> TreeRequest:
    unused: Any = None
    return TreeRequest(
        seed=0, max_answers=1, params=PARAMS, vocabulary=VOCABULARY, regions=TARGET.regions, region=1,
        written_tokens=(), trial=unused, ending=unused, encode=TARGET.encode, stop=TARGET.stop, confidence_bound=None,
        rank_rules=(), final_tokens=(), takes_likeliest=False, connector_family=unused, rules_out=unused,
    )  # fmt: skip


def trial(written: Sequence[int], probabilities: Sequence[float] = PROBABILITIES) -> Choice:
    """A trial answer whose token i was sampled with the i-th probability, at an entropy of i nats."""
    trace = Trace(0, 0, tokens=list(written), raw_logprobs=array("d", [math.log(0.5 * one) for one in probabilities]))
    for position, (one, _) in enumerate(zip(probabilities, written, strict=False)):
        trace.add(*record(position, float(position), one, 0, 1))
    return Choice(Node(0, trace), ChoiceOutput(0), 0)


def confidence(written: str, probabilities: Sequence[float] = PROBABILITIES, **fields: Any) -> float:
    probe = Probe.model_validate({"probability_above": 0.5, **fields})
    return confidence_of_trial(request(), probe, trial([*tokens(written)], probabilities))


def test_confidence_is_the_mean_over_the_span() -> None:
    assert confidence("{|4|2|}") == pytest.approx((0.1 + 0.9 + 0.8 + 0.5) / 4)
    assert confidence("{|4|2|}", span={"skip": 1}) == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert confidence("{|4|2|}", span={"skip": 1, "mean": "geometric"}) == pytest.approx((0.9 * 0.8 * 0.5) ** (1 / 3))
    assert confidence("{|4|2|}", span={"mean": "entropy"}) == pytest.approx(1 - 1.5 / math.log(VOCABULARY.size))
    assert confidence("{", span={"skip": 1}) == 0.0, "nothing is left"


def test_a_span_can_end_at_the_closing_brace() -> None:
    until: Any = {"span": {"until": "closing_brace"}}
    assert confidence("{|4|}|.", **until) == pytest.approx((0.1 + 0.9 + 0.8) / 3)
    assert confidence("{|{|}|}", **until) == pytest.approx((0.1 + 0.9 + 0.8 + 0.5) / 4)
    assert confidence("4|}|.|.", text="\\boxed{", **until) == pytest.approx((0.1 + 0.9) / 2), "opened in the text"
    assert confidence("4|4|4|4", **until) == pytest.approx((0.1 + 0.9 + 0.8 + 0.5) / 4), "never closed"


def test_a_sampled_trial_answer_has_the_probabilities_of_what_was_sampled() -> None:
    assert confidence("{|4|2|}", temperature=0.6) == pytest.approx(0.5 * (0.1 + 0.9 + 0.8 + 0.5) / 4)


def test_an_answer_that_must_be_followed_by_the_end_of_the_reasoning() -> None:
    probe = Probe.model_validate({"probability_above": 0.5, "span": {"needs_end": True}})
    assert confidence_of_trial(request(), probe, trial([*tokens("{|4|}"), END_THINK])) == pytest.approx(0.575)
    assert confidence_of_trial(request(), probe, trial(tokens("{|4|}|."))) == 0.0


async def test_the_answer_is_read_from_the_text_and_the_trial_answer() -> None:
    probe = Probe.model_validate({"agreement": 2, "extract": "boxed_text", "text": "\\boxed{", "rejects": ["no"]})
    assert await read_trial(request(), probe, trial(encode("1.50} \\]"))) == ("1.50", "1.50")
    assert await read_trial(request(), probe, trial(encode("1.50"))) is None, "the box is not closed"
    assert await read_trial(request(), probe, trial(encode("1.50} Now"))) is None, "as a part of any word"


async def test_a_computed_answer_is_read_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def read(text: str) -> str:
        threads.append(threading.current_thread().name)
        return text

    for name, extract in EXTRACTORS.items():
        monkeypatch.setitem(EXTRACTORS, name, read)
        probe = Probe.model_validate({"agreement": 2, "extract": name, "text": ""})
        assert await read_trial(request(), probe, trial(encode("4"))) is not None, extract
        monkeypatch.undo()
        on_loop = threads.pop() == threading.current_thread().name
        assert on_loop == (name not in COMPUTED), name


def test_the_moving_variance_is_that_of_the_authors_code() -> None:
    """xidulu/EAT, early_stopping_utils.py: the mean is moved first. Worked out by hand for a weight of one half."""
    moving = MovingVariance(2.0)
    means, variances = [], []
    for value in (4.0, 1.0):
        moving.add(value, 0.5)
        means.append(moving.mean)
        variances.append(moving.variance)
    assert means == [3.0, 2.0]
    assert variances == [0.5, 0.75], "½ · 1² and ½ · 1² + ½ · ½"


def test_how_near_the_end_of_the_reasoning_is() -> None:
    """Its probability is that at the trial answer's first token, the likeliest token's that where the rule fired."""
    trunk = trial([A, B], (0.3, 0.6)).node
    tried = trial([A], (0.5,))
    tried.node.trace.stores_all_alternatives, tried.node.trace.max_alternatives = True, 2
    assert end_margin(trunk, 1, tried, END_THINK) == math.inf, "nothing is known"
    tried.node.trace.add_alternatives(0, 1.0, np.array([A, END_THINK], np.int32), np.array([0.5, 0.2], np.float32))
    assert end_margin(trunk, 1, tried, END_THINK) == pytest.approx(math.log(0.6 / 0.2))
    assert end_margin(trunk, 1, tried, B) == math.inf
    assert end_margin(trunk, 2, tried, END_THINK) == math.inf, "the trunk has no record there"
