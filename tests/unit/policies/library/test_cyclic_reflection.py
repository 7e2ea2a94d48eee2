"""cyclic-reflection, against the formula of the authors' code (OPTML-Group/CyclicReflex, Base/evaluate.py), run here.

There, a vLLM logits processor adds the wave at len(output tokens) to five ids: those of "wait", "Wait", "but", "But"
and "Alternatively", without a space before them; until the end of the reasoning has been generated.
"""

from __future__ import annotations

import pytest
import torch

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.regions import single_token_regions
from tests.unit.policies.vocabularies import byte_vocabulary

from .replay import replay

AUTHORS = ("wait", "Wait", "but", "But", "Alternatively")
OTHERS = (" wait", " Wait", " but", " But", " Alternatively", "alternatively", "WAIT", "x")
VOCABULARY = byte_vocabulary(*AUTHORS, *OTHERS)
END_THINK = VOCABULARY.size - 2
TARGET = ServedModel(
    VOCABULARY,
    fork_threshold=0.672,
    regions=single_token_regions(VOCABULARY.size - 3, END_THINK),
    stop=VOCABULARY.size - 1,
)
IDS = [VOCABULARY.tokens.index(word.encode()) for word in AUTHORS]
X = VOCABULARY.tokens.index(b"x", 256)


def authors_wave(position: int, amplitude: float, period: float) -> float:
    cycle = position % period / period
    if cycle <= 0.25:
        return cycle / 0.25 * amplitude
    if cycle <= 0.75:
        return amplitude - (cycle - 0.25) / 0.5 * 2 * amplitude
    return -amplitude + (cycle - 0.75) / 0.25 * amplitude


@pytest.mark.parametrize(
    ("options", "amplitude", "period"),
    [({}, 5.0, 1200), ({"period": 900}, 5.0, 900), ({"amplitude": 3, "period": 12}, 3.0, 12)],
)
def test_the_wave_is_the_authors_on_their_five_tokens(
    options: dict[str, float], amplitude: float, period: float
) -> None:
    logits = torch.zeros(VOCABULARY.size)
    for position, step in enumerate(replay("cyclic-reflection", [logits] * 40, [X] * 40, TARGET, options)):
        wave = authors_wave(position, amplitude, period)
        assert step.biases == pytest.approx(dict.fromkeys(IDS, wave) if abs(wave) > 1e-6 else {}, abs=1e-5)


def test_the_defaults_over_a_whole_period() -> None:
    """At the quarters of the period: 0, +5, 0, -5, 0, by hand."""
    logits = torch.zeros(VOCABULARY.size)
    steps = replay("cyclic-reflection", [logits] * 1201, [X] * 1201, TARGET)
    expected = {0: 0.0, 150: 2.5, 300: 5.0, 450: 2.5, 600: 0.0, 750: -2.5, 900: -5.0, 1050: -2.5, 1200: 0.0}
    for position, wave in expected.items():
        assert float(steps[position].after[IDS[1]]) == pytest.approx(wave, abs=1e-4)


def test_it_stops_with_the_reasoning() -> None:
    logits = torch.zeros(VOCABULARY.size)
    steps = replay("cyclic-reflection", [logits] * 12, [X] * 5 + [END_THINK] + [X] * 6, TARGET)
    assert [bool(step.biases) for step in steps] == [False] + [True] * 5 + [False] * 6
