"""Fitting a readout: it finds a direction that is there, and its placebos find none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forkpoint_policies.hidden.fit_readout import calibrate, fit_direction, fit_readout
from forkpoint_policies.hidden.separation import LabelledStates, Separation, auc, separation

SIZE, PER_QUESTION = 24, 5
DIRECTION = np.random.default_rng(5).normal(size=SIZE)


def states(questions: range, difference: float, seed: int) -> LabelledStates:
    """Of each question five states; those of every second question are right, and moved along DIRECTION."""
    random = np.random.default_rng(seed)
    question = np.repeat(np.array(questions), PER_QUESTION)
    right = question % 2 == 0
    noise = random.normal(size=(len(question), SIZE)) * np.linspace(0.5, 2, SIZE)
    return LabelledStates(noise + difference * np.outer(right, DIRECTION / np.linalg.norm(DIRECTION)), right, question)


SPANS = range(80), range(80, 120), range(120, 200)
TRAIN, CALIBRATION, HELD_OUT = (states(span, 2.0, seed) for seed, span in enumerate(SPANS, 1))


def separated(train: LabelledStates, calibration: LabelledStates, held_out: LabelledStates) -> Separation:
    weight = fit_readout(train, calibration).weight
    return separation(weight, train, held_out, fit_direction, LabelledStates.shuffled_over_questions, placebos=40)


def test_it_separates_unseen_questions_and_placebos_do_not() -> None:
    found = separated(TRAIN, CALIBRATION, HELD_OUT)
    assert found.fitted > 0.85
    assert abs(found.shuffled_labels - 0.5) < 0.1
    assert found.random_direction < found.fitted - 0.15
    assert found.p_value == pytest.approx(1 / 41)


def test_where_there_is_nothing_it_finds_nothing() -> None:
    train, calibration, held_out = (states(span, 0.0, seed) for seed, span in enumerate(SPANS, 4))
    found = separated(train, calibration, held_out)
    assert abs(found.fitted - 0.5) < 0.1
    assert found.p_value > 0.05


def test_its_values_are_probabilities() -> None:
    readout = fit_readout(TRAIN, CALIBRATION)
    probability = 1 / (1 + np.exp(-readout.numbers(HELD_OUT.states)))
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        chosen = (probability >= low) & (probability < high)
        assert abs(HELD_OUT.label[chosen].mean() - probability[chosen].mean()) < 0.15


def test_the_discriminant_without_shrinkage() -> None:
    means = [TRAIN.states[TRAIN.label == label].mean(axis=0) for label in (False, True)]
    within = np.concatenate([TRAIN.states[TRAIN.label == label] - mean for label, mean in enumerate(means)])
    expected = np.linalg.inv(within.T @ within / len(within)) @ (means[1] - means[0])
    assert fit_direction(TRAIN, shrinkage=0.0) == pytest.approx(expected, rel=1e-6)


def test_the_area_counts_pairs() -> None:
    random = np.random.default_rng(0)
    scores, right = random.integers(5, size=40).astype(np.float64), random.random(40) > 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[right] for b in scores[~right]]
    assert auc(scores, right) == pytest.approx(np.mean(pairs))
    assert math.isnan(auc(scores, np.ones(40, np.bool_)))


def test_scores_that_separate_perfectly_have_a_finite_slope() -> None:
    slope, intercept = calibrate(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert math.isfinite(slope)
    assert slope > 0
    assert abs(intercept) < 1e-6


def test_one_class_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="all states have one label"):
        fit_direction(LabelledStates(TRAIN.states, np.ones_like(TRAIN.label), TRAIN.question))


def test_a_question_keeps_one_label_when_labels_are_shuffled() -> None:
    shuffled = TRAIN.shuffled_over_questions(np.random.default_rng(1))
    for question in range(80):
        assert len(set(shuffled.label[shuffled.question == question].tolist())) == 1
    assert shuffled.label.sum() == TRAIN.label.sum()
    assert (shuffled.label != TRAIN.label).any()
