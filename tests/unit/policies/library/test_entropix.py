"""entropix, against the quadrants of the sampler of xjdr-alt/entropix (at 68bbf40db5), whose order is run here.

LELV: H < .3, V < 1.2. HELV: H > 2.5, V < 1.2. LEHV: H < 2.5, V > 2.5. HEHV: H > 1.2, V > 2.5, all in nats. The first
that holds acts: HELV writes " ...", LEHV does nothing, HEHV samples another token. LELV takes the likeliest.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.unit.policies import float64_reference
from tests.unit.policies.vocabularies import SIZE, encode, token

from .replay import Step, replay


def quadrant(entropy: float, varentropy: float) -> str:
    if entropy < 0.3 and varentropy < 1.2:
        return "LELV"
    if entropy > 2.5 and varentropy < 1.2:
        return "HELV"
    if entropy < 2.5 and varentropy > 2.5:
        return "none"  # LEHV: the token that was sampled
    if entropy > 1.2 and varentropy > 2.5:
        return "HEHV"
    return "none"


def acted(step: Step) -> str:
    """Which quadrant's action was taken."""
    if step.forced:
        return "HELV" if step.left == [encode(" ...")[0]] else "?"
    if torch.equal(step.after, step.before):
        return "none"
    if len(step.left) == 1:
        return "LELV" if step.left == [int(step.before.argmax())] else "?"
    return "HEHV" if torch.allclose(step.after, step.before / 1.5, atol=1e-5) else "?"


def spread(top: float, others: int) -> Tensor:
    """One token with this probability, and so many others that share the rest."""
    logits = torch.full((SIZE,), -torch.inf)
    logits[40] = math.log(top)
    written = [token(" "), token(".")]  # of " ...", which is forced only where it can be sampled
    chosen = [*written, *(one for one in range(SIZE) if one not in (40, *written))][:others]
    logits[chosen] = math.log((1 - top) / others)
    return logits


SCRIPT = [spread(top, others) for top in (0.05, 0.2, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97, 0.999) for others in (5, 30, 200)]


def test_each_position_is_in_the_authors_quadrant() -> None:
    found, expected = [], []
    for logits in SCRIPT:  # each alone: a text that is written goes on over the positions after it
        (step,) = replay("entropix", [logits], [])
        shares = float64_reference.distribution(step.before.numpy())
        expected.append(quadrant(float64_reference.entropy(shares), float64_reference.varentropy(shares)))
        found.append(acted(step))
    assert found == expected
    assert set(expected) == {"LELV", "HELV", "HEHV", "none"}


def test_between_the_two_bounds_of_the_entropy_it_does_nothing() -> None:
    """.7 and 30 times .01: H = -.7 ln .7 - .3 ln .01 = 1.631 and V = .21 (ln 70)² = 3.790, by hand."""
    logits = spread(0.7, 30)
    shares = float64_reference.distribution(logits.numpy())
    assert float64_reference.entropy(shares) == pytest.approx(1.6313, abs=1e-4)
    assert float64_reference.varentropy(shares) == pytest.approx(3.7905, abs=1e-4)
    (step,) = replay("entropix", [logits], [])
    assert acted(step) == "none"


def test_the_whole_text_is_written_where_the_entropy_alone_is_high() -> None:
    written = encode(" ...")
    steps = replay("entropix", [spread(0.03, 30)] * len(written), written)
    assert [step.left for step in steps] == [[one] for one in written]
