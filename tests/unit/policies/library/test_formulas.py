"""Each policy of the library on hand-made logits, against its published formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.record_flags import FORCED
from forkpoint_policies.library import LIBRARY
from tests.unit.policies import float64_reference
from tests.unit.policies.factories import Record, Request, Run, fired, random_logits
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, token

UNSURE = random_logits(SIZE, scale=1.0)  # about 5 nats
SURE = torch.zeros(SIZE)
SURE[40] = 12.0


def changed(name: str, logits: Tensor, generated: list[int] | None = None, **options: Any) -> tuple[Tensor, Record]:
    """The logits after the last of the steps that a request with these tokens takes, all on the same logits."""
    request = {key: options.pop(key) for key in ("temperature", "region", "seed") if key in options}
    program = compile_policy(LIBRARY[name].use(options), TARGET).program
    run = Run(Request(program, **request))
    generated = generated or []
    for position in range(len(generated) + 1):
        after = logits[None].clone()
        record = run.step(after, [generated[:position]])
    return after[0], record


def nats(logits: Tensor) -> float:
    return float64_reference.entropy(float64_reference.distribution(logits.numpy()))


def completing(*words: str) -> list[int]:
    """The tokens that write these words, alone or after a space."""
    return [token(form) for word in words for form in (word, " " + word)]


def test_observe() -> None:
    after, record = changed("observe", UNSURE)
    assert torch.equal(after, UNSURE)
    assert fired(record) == [0]
    assert fired(changed("observe", SURE)[1]) == []


@pytest.mark.parametrize(("high", "low"), [(1.5, 0.6), (2.0, 1.0), (1.0, 3.0)])
def test_dual_temperature(high: float, low: float) -> None:
    assert torch.equal(changed("dual-temperature", UNSURE, high=high, low=low)[0], UNSURE / high)
    assert torch.equal(changed("dual-temperature", SURE, high=high, low=low)[0], SURE / low)
    assert torch.equal(changed("dual-temperature", SURE, high=high, low=low, region=Region.ANSWER)[0], SURE)


def test_dual_temperature_of_zero_takes_the_likeliest() -> None:
    after, _ = changed("dual-temperature", UNSURE, high=0)
    assert (after > -torch.inf).nonzero().flatten().tolist() == [int(UNSURE.argmax())]


@pytest.mark.parametrize("top", [0.2, 0.29, 0.31, 0.6])
def test_greedy_when_unsure(top: float) -> None:
    logits = torch.zeros(SIZE)
    logits[9] = math.log(top * (SIZE - 1) / (1 - top))
    after, record = changed("greedy-when-unsure", logits)
    if top < 0.3:
        assert (after > -torch.inf).nonzero().flatten().tolist() == [9]
        assert record.numbers[0, 4].item() == pytest.approx(1 - top, abs=1e-5)
    else:
        assert torch.equal(after, logits)


@pytest.mark.parametrize(
    ("name", "banned", "unchanged"),
    [
        ("nowait", ("wait", "now", "other"), ("so", "know", "button")),
    ],
)
def test_bans(name: str, banned: tuple[str, ...], unchanged: tuple[str, ...]) -> None:
    after, _ = changed(name, UNSURE)
    assert all(math.isinf(after[one]) for word in banned for one in completing(word))
    assert all(after[token(word)] == UNSURE[token(word)] for word in unchanged)
    assert torch.equal(changed(name, UNSURE, region=Region.ANSWER)[0], UNSURE)


def test_budget_force_puts_off_the_end() -> None:
    ending = UNSURE.clone()
    ending[END_THINK] = 20.0
    first, *rest = TARGET.encode("Wait") if TARGET.encode else []
    assert not rest
    after, record = changed("budget-force", ending, temperature=0.0)
    assert (after > -torch.inf).nonzero().flatten().tolist() == [first]
    assert int(record.flags[0]) & FORCED
    assert record.numbers[0, 4] == 1.0
    assert torch.equal(changed("budget-force", ending, [first], temperature=0.0)[0], ending), "once"
    assert not torch.equal(changed("budget-force", ending, [first], temperature=0.0, times=2)[0], ending)
    assert torch.equal(changed("budget-force", UNSURE, temperature=0.0)[0], UNSURE)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_budget_force_replaces_as_often_as_the_end_would_be_sampled(temperature: float) -> None:
    logits = UNSURE.clone()
    logits[END_THINK] = float(UNSURE.max()) + 2.0
    share = float64_reference.distribution(logits.numpy(), temperature)[END_THINK]
    program = compile_policy(LIBRARY["budget-force"].policy, TARGET).program
    count = 4000
    run = Run(*(Request(program, temperature, seed=seed) for seed in range(count)))
    after = logits.repeat(count, 1)
    record = run.step(after, [[]] * count)
    forced = (record.flags & FORCED > 0).numpy()
    assert abs(forced.mean() - share) < 4 * math.sqrt(share * (1 - share) / count)
    assert torch.isneginf(after[:, END_THINK]).all(), "rows that do not end here cannot sample the end"
    plain = after[torch.from_numpy(~forced)][0]
    others = torch.arange(SIZE) != END_THINK
    assert torch.equal(plain[others], logits[others])
    assert record.numbers[:, 4].tolist() == pytest.approx([share] * count, rel=1e-4)


@pytest.mark.parametrize("margin", [0.2, 0.49, 0.51, 2.0])
@pytest.mark.parametrize(("before", "sentence"), [(".", True), ("x", False), (".\n", True), (", ", False)])
def test_end_when_likely(margin: float, before: str, sentence: bool) -> None:
    logits = torch.zeros(SIZE)
    logits[9] = 3.0
    logits[END_THINK] = 3.0 - margin
    after, record = changed("end-when-likely", logits, [token(before)])
    if sentence and margin <= 0.5:
        assert (after > -torch.inf).nonzero().flatten().tolist() == [END_THINK]
        share = float64_reference.distribution(logits.numpy())[END_THINK]
        assert record.numbers[0, 4].item() == pytest.approx(1 - share, abs=1e-5)
    else:
        assert torch.equal(after, logits)


@pytest.mark.parametrize("logits", [UNSURE, UNSURE * 3, SURE], ids=["unsure", "between", "sure"])
def test_entropy_temperature(logits: Tensor) -> None:
    factor = max(0.01, 1.2 * 0.8 ** (1.5 / nats(logits)))
    after, record = changed("entropy-temperature", logits, t0=1.2)
    assert after.tolist() == pytest.approx((logits / factor).tolist(), rel=1e-4)
    moved = float64_reference.distance(
        float64_reference.distribution(logits.numpy()), float64_reference.distribution(logits.numpy(), factor)
    )
    assert record.numbers[0, 4].item() == pytest.approx(moved, abs=1e-3)


def test_min_p_at_forks() -> None:
    after, _ = changed("min-p-at-forks", UNSURE, min_p=0.2)
    whole = float64_reference.distribution(UNSURE.numpy())
    assert torch.equal(after > -torch.inf, torch.from_numpy(whole >= 0.2 * whole.max()))
    assert torch.equal(changed("min-p-at-forks", SURE)[0], SURE)


@pytest.mark.parametrize(
    ("name", "word", "other"), [("amplify-reflection", "wait", "so"), ("amplify-conclusion", "so", "wait")]
)
def test_amplify(name: str, word: str, other: str) -> None:
    after, _ = changed(name, UNSURE)
    assert float(after[token(word)] - UNSURE[token(word)]) == pytest.approx(2.0, abs=1e-5)
    assert after[token(other)] == UNSURE[token(other)]
    assert torch.equal(changed(name, SURE)[0], SURE)


def test_every_policy_is_tested_here() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in LIBRARY if f'"{name}"' not in source] == []
