"""A run's figures: which answers are paired, and which are left out."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from forkpoint_clients.ab import cautions
from forkpoint_clients.ab.comparison import ScoredAnswer, compare, compare_interim, score
from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.scorers import Scorer
from tests.unit.clients.ab.synthetic import QUESTIONS, SAMPLES, made, summary


def test_figures_are_those_of_the_answers() -> None:
    plain, other = made("none", 0.7, 100, 1), made("nowait", 0.4, 200, 2, effect=1.5, cut=True)
    found = compare({**plain, **other}, ["none", "nowait"], 240)
    of_plain, of_other = found.arms
    assert of_plain.correct is not None
    assert of_plain.correct.value == pytest.approx(np.mean([one.score for one in plain.values()]))
    assert of_plain.effect is None
    assert (of_other.effect, of_other.fired, of_other.mean_entropy) == (1.5, 2, 0.25)
    assert of_other.truncated is not None
    assert of_other.truncated.value == pytest.approx(
        np.mean([one.answer.finish_reason == "length" for one in other.values()])
    )
    (difference,) = found.differences
    pairs = [(plain[Unit(unit.question, unit.sample, "none")], one) for unit, one in other.items()]
    expected = stats.mean(
        [float(b.score or 0) - float(a.score or 0) for a, b in pairs],
        np.repeat(np.arange(QUESTIONS), SAMPLES),
        bound=1.0,
    )
    assert difference.correct == expected
    assert difference.correct_p_holm == expected.p
    assert difference.tokens is not None
    assert difference.tokens.value == pytest.approx(np.mean([b.answer.tokens - a.answer.tokens for a, b in pairs]))
    assert difference.tokens == difference.reasoning_tokens
    assert (difference.pairs, difference.questions) == (120, 40)


def test_at_equal_caps_longer_answers_count_for_nothing() -> None:
    plain, other = made("none", 0.7, 100, 1), made("nowait", 0.7, 200, 2)
    found = compare({**plain, **other}, ["none", "nowait"], 240)
    for at in found.caps:
        right = np.mean([one.score if one.answer.tokens <= at.cap else 0.0 for one in plain.values()])
        assert at.correct["none"].value == pytest.approx(right)
        assert at.mean_tokens["nowait"] == pytest.approx(
            np.mean([min(one.answer.tokens, at.cap) for one in other.values()])
        )
    assert found.caps[-1].cap == max(one.answer.tokens for one in other.values())
    assert found.caps[-1].differences["nowait"].value == pytest.approx(
        found.differences[0].correct.value if found.differences[0].correct else 9
    )
    equal = found.differences[0].equal_mean
    assert equal is not None
    assert equal.tokens == pytest.approx(np.mean([one.answer.tokens for one in plain.values()]))
    assert equal.difference.excludes_zero
    assert equal.difference.value < -0.2


def test_an_answer_without_a_score_is_counted_and_left_out_with_its_pair() -> None:
    plain, other = made("none", 0.5, 100, 1), made("nowait", 0.5, 100, 2)
    other[Unit("q0", 0, "nowait")] = ScoredAnswer(Answer(error="too long"), None, "the server: too long")
    other[Unit("q1", 0, "nowait")] = ScoredAnswer(other[Unit("q1", 0, "nowait")].answer, None, "the scorer: KeyError")
    found = compare({**plain, **other}, ["none", "nowait"], 240)
    assert (found.arms[1].answers, found.arms[1].errors, found.arms[1].failed_scorers) == (120, 1, 1)
    assert found.differences[0].pairs == 118
    assert found.failures == {"the server: too long": 1, "the scorer: KeyError": 1}
    assert "2 answers have no score" in " ".join(cautions.warnings(found))


def test_p_values_are_corrected_for_the_arms() -> None:
    arms = {
        arm: made(arm, chance, 100, seed) for seed, (arm, chance) in enumerate((("a", 0.7), ("b", 0.5), ("c", 0.55)))
    }
    found = compare({**arms["a"], **arms["b"], **arms["c"]}, ["a", "b", "c"], 360)
    plain = [one.correct.p for one in found.differences if one.correct is not None]
    assert [one.correct_p_holm for one in found.differences] == stats.holm(plain)


@pytest.mark.parametrize("answers", [0, 1, 2, 5])
def test_a_run_with_few_answers(answers: int) -> None:
    """Figures that are not known yet are null, and nothing fails."""
    some = dict(list({**made("a", 0.5, 10, 1), **made("b", 0.5, 10, 2)}.items())[:answers])
    order = [Unit(f"q{number}", sample, arm) for number in range(40) for sample in range(3) for arm in ("a", "b")]
    found = compare_interim(some, order, ["a", "b"], 240)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["answered"] == answers
    assert data["differences"][0]["correct"] is None
    assert math.isnan(found.differences[0].correct_p_holm)
    assert cautions.warnings(found)[0].startswith("The run is not complete")


def test_trees_are_not_cut_off_at_caps() -> None:
    """Their tokens are those of several texts: they are compared without caps, and at equal mean tokens."""
    arms = ["none", "branch", "nowait", "deer.placebo"]
    answers = {
        unit: one for seed, arm in enumerate(arms) for unit, one in made(arm, 0.5, 100, seed, effect=1.0).items()
    }
    unit = Unit("q0", 0, "branch")
    branched = replace(answers[unit].answer, forkpoint={**summary(1.0), "branches": 3})
    found = compare(
        {**answers, unit: replace(answers[unit], answer=branched)}, arms, 480, multi_request_arms={"deer.placebo"}
    )
    assert found.multi_request_arms == ["branch", "deer.placebo"]
    assert all(list(one.correct) == list(one.mean_tokens) == ["none", "nowait"] for one in found.caps)
    assert all(list(one.differences) == ["nowait"] for one in found.caps)
    assert all(one.equal_mean is not None for one in found.differences)
    assert any("An answer of branch, deer.placebo takes several requests" in one for one in cautions.warnings(found))
    probed = replace(branched, forkpoint={"interventions": {"probe": {"fired": 2, "effect": 0.0}}})
    first = compare(
        {**answers, unit: replace(answers[unit], answer=probed)}, ["branch", "none", "nowait", "deer.placebo"], 480
    )
    assert first.multi_request_arms == ["branch"]
    assert all(list(one.correct) == ["none", "nowait", "deer.placebo"] and not one.differences for one in first.caps)
    assert compare(answers, arms, 480, multi_request_arms=arms).caps == []


def test_scorers_that_raise_mark_their_answers() -> None:
    def throws(item: Item, text: str) -> float:
        if item.id == "q1":
            raise ZeroDivisionError
        return float(text == "x")

    items = [Item(f"q{number}", ()) for number in range(3)]
    answers = {Unit(item.id, 0, "a"): Answer((Choice("x", "", "stop"),), 1) for item in items}
    answers[Unit("q2", 0, "a")] = Answer(error="no")
    found = score(answers, items, Scorer("throws", throws))
    assert [one.score for one in found.values()] == [1.0, None, None]
    assert found[Unit("q1", 0, "a")].failure == "the scorer: ZeroDivisionError: "
    assert found[Unit("q2", 0, "a")].failure == "the server: no"
