"""adaptive_top_n_sigma, against its formula in float64: keep logit >= max - n * std of all logits (arXiv:2411.07641),
with n = unsure + (sure - unsure) θ / (θ + m), where m is the running mean of the request's entropies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies import float64_reference
from tests.unit.policies.factories import Request, Run, compiled, effects, fired, policy, random_logits, rule
from tests.unit.policies.vocabularies import SIZE, TARGET

FORK = TARGET.fork_threshold
NEAR = 1e-5  # a logit this close to the bound may fall on either side of it


def by_formula(fields: dict[str, Any], logits: Tensor, mean: float) -> tuple[float, set[int]]:
    """The smallest logit that stays, and the tokens above it."""
    values, threshold = logits.double().numpy(), fields.get("threshold", FORK)
    n = fields["unsure"] + (fields["sure"] - fields["unsure"]) * threshold / (threshold + mean)
    possible = values[np.isfinite(values)]
    limit = possible.max() - n * possible.std()
    return limit, set(np.flatnonzero(values >= limit).tolist())


def entropy(logits: Tensor) -> float:
    return float64_reference.entropy(float64_reference.distribution(logits.numpy()))


@given(
    fields=st.fixed_dictionaries(
        {"sure": st.floats(0.3, 4.0), "unsure": st.floats(0.3, 4.0)},
        optional={"threshold": st.floats(0.1, 6.0), "tokens": st.integers(1, 5)},
    ),
    temperature=st.sampled_from([0.6, 1.0, 1.5]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_each_step_is_that_of_the_formula(fields: dict[str, Any], temperature: float, seed: int) -> None:
    run = Run(Request(compiled(policy(rule(adaptive_top_n_sigma=fields))), temperature))
    random = np.random.default_rng(seed)
    text, mean, count = list[int](), fields.get("threshold", FORK), 0
    for position in range(8):
        logits = random_logits(SIZE, seed=seed + position, scale=float(random.uniform(0.3, 5.0)))
        logits[torch.from_numpy(random.random(SIZE) < 0.1)] = -torch.inf
        changed = logits[None].clone()
        record = run.step(changed, [text])
        limit, kept = by_formula(fields, logits, mean)
        left = set(torch.isfinite(changed[0]).nonzero().flatten().tolist())
        assert all(abs(float(logits[token]) - limit) < NEAR for token in left ^ kept)
        assert torch.equal(changed[0][list(left)], logits[list(left)])
        shares = [float64_reference.distribution(one.numpy(), temperature) for one in (logits, changed[0])]
        assert fired(record) == [0]
        assert effects(record)[0] == pytest.approx(float64_reference.distance(*shares), abs=1e-4)
        count = min(count + 1, fields.get("tokens", 64))
        mean += (entropy(logits) - mean) / count
        text = [*text, int(random.integers(256, SIZE - 3))]


def test_by_hand() -> None:
    """Logits 3, 1, 1, -1 have the standard deviation √2. At first n is halfway, 1.25: what is below 1.232 goes. After a
    token without any doubt it is `sure`, 2: below .172. After one of ln 4 nats beside it, the mean is the threshold."""
    fields = {"sure": 2.0, "unsure": 0.5, "threshold": float(np.log(4) / 2)}
    run = Run(Request(compiled(policy(rule(adaptive_top_n_sigma=fields)))))
    logits, certain, even = (torch.full((SIZE,), -torch.inf) for _ in range(3))
    logits[7], logits[8], logits[9], logits[10] = 3.0, 1.0, 1.0, -1.0
    certain[7], even[7:11] = 1.0, 0.0

    def left(text: list[int], at: Tensor) -> list[int]:
        changed = at[None].clone()
        run.step(changed, [text])
        return torch.isfinite(changed[0]).nonzero().flatten().tolist()

    assert left([], logits) == [7]
    assert left([], certain) == [7], "the first position is evaluated again, and counts once"
    assert left([7], logits) == [7, 8, 9]
    assert left([7], even) == [7, 8, 9, 10]
    assert left([7, 8], logits) == [7]


def test_its_placebos() -> None:
    everywhere = parse_policy(policy(rule(adaptive_top_n_sigma={"sure": 2.0, "unsure": 0.5})))
    at_forks = parse_policy(policy(rule({"entropy_above": "fork"}, adaptive_top_n_sigma={"sure": 2.0, "unsure": 0.5})))
    assert matches_of(everywhere) == ("probability", "dose")
    assert matches_of(at_forks) == ("probability", "positions", "dose")
    placebo = placebo_of(everywhere, "probability").model_dump(mode="json", exclude_unset=True)
    written = everywhere.model_dump(mode="json", exclude_unset=True)
    run = Run(*(Request(compiled({**one, "name": "x"}), seed=3) for one in (written, placebo)))
    for position in range(6):
        logits = random_logits(SIZE, seed=position, scale=2.0)
        changed = logits.repeat(2, 1)
        record = run.step(changed, [[300] * position] * 2)
        assert not torch.equal(changed[0], changed[1])
        assert effects(record, 1)[0] <= effects(record, 0)[0] + 1e-4, "as much as the other tokens hold"
        assert torch.isfinite(changed[1][~torch.isfinite(changed[0])]).any(), "its own tokens stay possible"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sure": 1.0}, "unsure: is missing"),
        ({"sure": 0, "unsure": 1.0}, "greater than 0"),
        ({"sure": 1.0, "unsure": 1.0, "tokens": 0}, "greater than or equal to 1"),
        ({"sure": 1.0, "unsure": 1.0, "n": 1}, "here one can write sure, unsure, threshold, tokens"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_policy(policy(rule(adaptive_top_n_sigma=fields)))
