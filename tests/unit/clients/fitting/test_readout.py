"""Fitting a readout to collected states: what the report says where an effect is planted, absent, or only position."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_clients.fitting.readout import artefact, fit
from forkpoint_clients.fitting.scored import Collected, ScoredAnswer, labelled
from forkpoint_clients.fitting.states import AnswerStates
from forkpoint_policies.hidden.artefact import Model, read_artefact

SIZE, QUESTIONS = 16, 160
DIRECTION = np.random.default_rng(3).normal(size=SIZE)
DIRECTION /= np.linalg.norm(DIRECTION)
MODEL = Model("Qwen3ForCausalLM", SIZE)


def answer(question: int, right: bool, states: np.ndarray, position: np.ndarray) -> ScoredAnswer:
    rules = np.ones(len(states), np.int64)
    return ScoredAnswer(question, right, AnswerStates(position, rules, {"last": states.astype(np.float32)}))


def collected(shift: float, along_position: bool = False) -> Collected:
    """Answers to questions of which half are right: their states are moved by `shift`, wrong answers are longer. With
    `along_position` every state moves with its position, and not with its label."""
    random, found = np.random.default_rng(8), []
    for question in range(QUESTIONS):
        right = bool(random.random() < 0.5)
        position = np.arange(4 if right else 10) * 20
        along = -position / 40 if along_position else np.full(len(position), shift * right)
        states = random.normal(size=(len(position), SIZE)) + np.outer(along, DIRECTION)
        found.append(answer(question, right, states, position))
    return labelled(found)


def test_a_direction_that_is_there_beats_chance_and_position() -> None:
    readout, report = fit(collected(2.5), 0.4, 40, seed=1)
    assert report.separation.fitted > 0.9
    assert report.separation.beats_chance
    assert report.beats_position
    assert report.fitted.questions + report.calibrated.questions + report.held_out.questions == QUESTIONS
    assert report.held_out.questions == 64
    assert sum(one.states for one in report.bins) == report.held_out.states
    assert abs(readout.weight @ DIRECTION) / np.linalg.norm(readout.weight) > 0.9


def test_where_there_is_nothing_it_does_not_beat_chance() -> None:
    _, report = fit(collected(0.0), 0.4, 40, seed=1)
    assert not report.separation.beats_chance


def test_one_that_only_counts_tokens_does_not_beat_position() -> None:
    _, report = fit(collected(0.0, along_position=True), 0.4, 40, seed=1)
    assert report.separation.beats_chance
    assert report.position.area > 0.65
    assert not report.beats_position


def test_what_it_writes_is_read() -> None:
    readout, _ = fit(collected(2.5), 0.4, 20, seed=1)
    made = read_artefact(artefact(readout, MODEL, "a test", "m", 0.7, "").raw, "file", MODEL)
    assert (made.kind, made.output, made.suggested, made.trained_on) == ("readout", "probability", 0.7, "m")
    assert made.tensors["weight"] == pytest.approx(readout.weight, rel=1e-6)
    assert float(made.tensors["bias"]) == pytest.approx(readout.bias, rel=1e-6)


def test_what_cannot_be_fitted() -> None:
    states, position = np.zeros((1, SIZE)), np.zeros(1)
    all_right = [answer(question, True, states, position) for question in range(20)]
    with pytest.raises(DataError, match=r"held out have only right answers.*--questions"):
        fit(labelled(all_right), 0.4, 20, seed=0)
    with pytest.raises(DataError, match="the condition of --at held nowhere"):
        labelled([answer(0, True, np.zeros((0, SIZE)), np.zeros(0))])


def test_answers_without_a_state_are_counted() -> None:
    some = [answer(0, True, np.zeros((2, SIZE)), np.arange(2)), answer(1, False, np.zeros((0, SIZE)), np.zeros(0))]
    found = labelled(some)
    assert (found.answers, found.right_answers, found.without_states) == (2, 1, 1)
    assert found.states.question.tolist() == [0, 0]
