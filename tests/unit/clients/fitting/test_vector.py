"""Fitting a vector to states that conditions label: which label a state gets, and what the report says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forkpoint_clients.cli.steer import main
from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_clients.fitting.conditions import LabelledAnswer, Labels, labelled_answer, together
from forkpoint_clients.fitting.states import AnswerStates
from forkpoint_clients.fitting.vector import artefact, fit
from forkpoint_policies.hidden.artefact import Model, read_artefact

SIZE, QUESTIONS = 16, 60
DIRECTION = np.random.default_rng(3).normal(size=SIZE)
DIRECTION /= np.linalg.norm(DIRECTION)
AT, POSITIVE, NEGATIVE = {"every": 1}, {"every": 2}, {"every": 3}
ONE_SIDED = Labels(AT, POSITIVE, None, 1)


def read(*places: tuple[int, int]) -> AnswerStates:
    """States that were read at positions where the conditions of these bits hold."""
    position, rules = (np.array(column, np.int64) for column in zip(*places, strict=True))
    return AnswerStates(position, rules, {"layer.2": np.outer(position, np.ones(SIZE)).astype(np.float32)})


def labels_of(states: AnswerStates, labels: Labels, is_cut: bool = False) -> dict[int, bool]:
    found = labelled_answer(7, states, labels, is_cut)
    assert found.layers["layer.2"][:, 0].tolist() == found.position.tolist()
    return dict(zip(found.position.tolist(), found.label.tolist(), strict=True))


def test_the_label_looks_at_the_next_tokens() -> None:
    states = read((3, 1), (4, 2), (8, 1), (10, 2), (12, 3))
    assert labels_of(states, ONE_SIDED) == {3: True, 8: False, 12: False}
    assert labels_of(states, replace(ONE_SIDED, ahead=2)) == {3: True, 8: True, 12: False}
    assert labels_of(states, replace(ONE_SIDED, ahead=0)) == {3: False, 8: False, 12: True}


def test_one_condition_is_what_the_other_is_not_and_both_or_neither_is_left_out() -> None:
    only_negative = replace(ONE_SIDED, positive=None, negative=NEGATIVE)
    assert labels_of(read((3, 1), (4, 2), (8, 1)), only_negative) == {3: False, 8: True}
    both = replace(ONE_SIDED, negative=NEGATIVE)
    states = read((3, 1), (4, 2), (6, 1), (7, 4), (9, 1), (10, 6), (20, 1))
    assert labels_of(states, both) == {3: True, 6: False}


def test_where_states_were_cut_off_the_last_ones_have_no_label() -> None:
    states = read((3, 1), (4, 2), (8, 1))
    assert labels_of(states, ONE_SIDED, is_cut=True) == {3: True}


def answers(shift: float) -> list[LabelledAnswer]:
    """To each question an answer with ten states, of which those with the label are moved by `shift` at layer 2."""
    random, found = np.random.default_rng(8), []
    for question in range(QUESTIONS):
        label = random.random(10) < 0.5
        noise = random.normal(size=(2, 10, SIZE)).astype(np.float32)
        moved = noise[1] + (shift * np.outer(label, DIRECTION)).astype(np.float32)
        found.append(LabelledAnswer(question, {"layer.1": noise[0], "layer.2": moved}, np.arange(10), label))
    return found


def test_the_layer_that_separates_is_found_and_written() -> None:
    vectors, report = fit(together(answers(3.0)), "mean-difference", 0.4, 40, seed=1)
    assert report.best.layer == "layer.2"
    first, second = report.layers
    assert not first.separation.beats_chance
    assert second.separation.beats_chance
    assert second.norm == pytest.approx(3.0, abs=0.5)
    assert (report.fitted.questions, report.held_out.questions) == (36, 24)
    assert report.position.area < second.separation.interval[0]
    model = Model("Qwen3ForCausalLM", SIZE)
    made = read_artefact(artefact(vectors, ["layer.2"], model, "a test", "m", 1.5, "").raw, "file", model)
    assert (made.kind, made.layers, made.suggested) == ("vector", (2,), 1.5)
    assert made.tensors["layer.2"] == pytest.approx(vectors["layer.2"], rel=1e-6)


def test_what_cannot_be_fitted() -> None:
    every = [replace(one, label=np.ones(10, np.bool_)) for one in answers(0.0)]
    with pytest.raises(DataError, match=r"held out have only positive states.*--questions"):
        fit(together(every), "mean-difference", 0.4, 20, seed=0)
    nothing = labelled_answer(0, read((3, 2)), ONE_SIDED, is_cut=False)
    with pytest.raises(DataError, match="no state was labelled"):
        together([nothing])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--positive: or --negative must be given"),
        (["--positive", "{"], "--positive: is not JSON"),
        (["--positive", '{"entropy_abov": 1}'], "--positive.entropy_abov: is not a field"),
        (["--negative", "[]"], "--negative: must be an object such as"),
        (["--positive", "{}", "--layers", "1,x"], "--layers: must be numbers of layers separated by commas"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "calm", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"forkpoint steer fit: {says}")
    assert said.count("\n") == 1
