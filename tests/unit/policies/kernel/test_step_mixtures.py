"""Any mixture of policies in a batch: each row against float64, and as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.record_flags import LEFT_ALONE, RULES_SHIFT
from forkpoint_policies.kernel.sampling_limits import NO_LIMITS, SamplingLimits
from forkpoint_policies.placebo import kinds_of
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_policies.worker.native_slots import NativeSlots
from forkpoint_policies.worker.torch_slots import TorchSlots
from tests.unit.policies import float64_reference
from tests.unit.policies.factories import (
    Json,
    Record,
    Request,
    Run,
    apply,
    compiled,
    effects,
    fired,
    policy,
    random_logits,
)
from tests.unit.policies.vocabularies import SIZE, TARGET, padded

WORDS = st.sampled_from(["wait", "so", "double-check", "in conclusion", "know", "let's", "等等"])
LIMITS = (SamplingLimits(top_k=20), SamplingLimits(top_p=0.9), SamplingLimits(5, 0.7, 0.05))
FAMILIES = st.sampled_from(["reflection", "conclusion", "uncertainty"])
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "words": st.lists(WORDS, min_size=1, max_size=3),
        "connectors": st.lists(FAMILIES, min_size=1, max_size=2),
        "token_ids": st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=90)
        | st.integers(65, SIZE).map(lambda n: list(range(n))),
    },
).filter(bool)
DECLARED = [{name: example} for name, action in ACTIONS.items() for example in action.examples]
"""Those that are files of their own."""


def bounds(name: str, below: float, above: float) -> st.SearchStrategy[Json]:
    """One of the two bounds, or none."""
    values = st.floats(below, above)
    return st.one_of(
        st.just({}), values.map(lambda at: {f"{name}_above": at}), values.map(lambda at: {f"{name}_below": at})
    )


@st.composite
def rules(draw: st.DrawFn) -> Json:
    """A rule that fires occasionally."""
    when: Json = {}
    for name, low, high in (("entropy", 0.1, 6.0), ("varentropy", 0.1, 4.0), ("top_probability", 0.02, 0.9)):
        when |= draw(bounds(name, low, high))
    if draw(st.booleans()):
        when |= {"connectors": draw(st.lists(FAMILIES, min_size=1, max_size=2)), "connector_probability_above": 0.02}
    if draw(st.integers(0, 3)) == 0:
        when["region"] = draw(st.sampled_from(["reasoning", "answer"]))
    if draw(st.integers(0, 3)) == 0:
        when["at_most"] = draw(st.integers(1, 2))
    if draw(st.integers(0, 3)) == 0:
        when["after_token"] = draw(st.integers(0, 3))
    biases = st.floats(0.125, 6.0)
    do = draw(
        st.one_of(
            NAMED.map(lambda named: {"suppress": named}),
            st.builds(lambda named, bias: {"suppress": named | {"bias": -bias}}, NAMED, biases),
            st.builds(lambda named, bias: {"amplify": named | {"bias": bias}}, NAMED, biases),
            st.floats(0.25, 4.0).map(lambda factor: {"temperature": factor}),
            st.just({"observe": {}}),
        )
    )
    return {"when": when, "do": do}


@st.composite
def richer_rules(draw: st.DrawFn) -> Json:
    """Any rule of the language, and the controls of any."""
    plain = draw(rules())
    when, do = plain["when"], plain["do"]
    when |= draw(
        st.sampled_from(
            [
                {},
                {},
                {"entropy_quantile_above": 0.5},
                {"probability": 0.5},
                {"confidence_below": 7, "confidence_window": 2},
                {"end_of_reasoning_rank_below": 100},
                {"mean_entropy_below": 3, "mean_entropy_window": 2},
                {"entropy_above": 1, "at_temperature": 0.6},
                {"words": ["so"], "connector_likeliest": True},
            ]
        )
    )
    when |= draw(
        st.sampled_from([{}, {}, {"since_connector_below": 2}, {"previous": {"words": ["so"], "endings": ["\n", ","]}}])
    )
    if "connectors" in when and not {"connector_probability_above", "since_connector_below"} & when.keys():
        del when["connectors"]
    do = draw(
        st.sampled_from(
            [
                do, do, {"temperature": 0}, {"temperature": {"base": 0.8, "exponent": 1.5}}, {"truncate": {"top_k": 5}},
                {"truncate": {"top_p": 0.8}}, {"truncate": {"min_p": 0.1}}, {"truncate": {"top_h": 0.5}},
                {"truncate": {"top_n_sigma": 1.0}}, {"truncate": {"p_less": True}},
                {"temperature": {"low": 0.5, "high": 1.5}},
                {"force": {"text": "Wait, so"}},
                {"force": {"text": "so", "instead_of": {"token_ids": list(range(90))}}},
                {"amplify": {"words": ["so"], "bias": {"shape": "triangular", "amplitude": 3.0, "period": 5}}},
                *DECLARED,
            ]
        )
    )  # fmt: skip
    rule = {"when": when, "do": do}
    try:
        kinds = kinds_of(parse_policy(policy(rule)).rules[0])
    except InputError:  # two of its conditions contradict each other
        reject()
    match = draw(st.sampled_from([None, None, *(kind for kind in kinds if kind not in ("frequency", "count"))]))
    strength = {"strength": draw(st.floats(0.5, 12.0))} if match == "dose" else {}
    return rule if match is None else {"do": {"control": {"like": rule, "match": match, **strength}}}


def possible(written: Json, target: ServedModel) -> bool:
    """Whether the policy is accepted: its rules do not contradict each other."""
    try:
        compiled(written, target)
    except InputError:
        return False
    return True


@lru_cache
def target_of(size: int) -> ServedModel:
    return replace(TARGET, vocabulary=padded(size))


@pytest.mark.slow
@given(
    written=st.lists(rules(), max_size=5),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_a_step_is_that_of_the_float64_reference(written: list[Json], temperature: float, seed: int) -> None:
    assume(possible(policy(*written), TARGET))
    program = compiled(policy(*written))
    random = np.random.default_rng(seed)
    state, region = program.follow(some_tokens(random, 4))
    logits = random_logits(SIZE, seed=seed, scale=float(random.uniform(0.5, 2.5)))
    logits[torch.from_numpy(random.random(SIZE) < 0.2)] = -torch.inf
    changed, record = apply(policy(*written), logits, temperature=temperature, word_state=state, region=region)
    situation = float64_reference.Situation(state, bool(region), temperature=temperature)
    outcome = float64_reference.expected(program, logits.numpy(), situation)
    assert np.array_equal(changed.numpy(), outcome.logits)
    assert fired(record) == [number for number, yes in enumerate(outcome.fired) if yes]
    heads = [outcome.entropy, outcome.varentropy, outcome.top_probability, max(outcome.masses, default=0.0)]
    assert record.numbers[0, :4].tolist() == pytest.approx(heads, rel=1e-4, abs=1e-5)
    assert effects(record) == pytest.approx(outcome.effects, rel=1e-3, abs=1e-4)
    assert bool(int(record.flags[0]) & LEFT_ALONE) == outcome.left_alone


def some_tokens(random: np.random.Generator, count: int) -> list[int]:
    """Mostly the vocabulary's merges, which form words, and the markers."""
    return [int(one) for one in random.integers(256, SIZE, count)]


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[int, list[Request], list[int]]:
    """A vocabulary's size, requests of several policies or none, and the step at which each starts."""
    size = draw(st.sampled_from([SIZE, 1024, 1500, 3 * 1024 + 17]))
    target = target_of(size)
    written = st.builds(
        lambda some, shadow: policy(*some, shadow=shadow), st.lists(richer_rules(), max_size=4), st.booleans()
    )
    policies = draw(st.lists(written.filter(lambda one: possible(one, target)), min_size=1, max_size=4))
    request = st.builds(
        Request,
        program=st.sampled_from([None, *(compiled(one, target) for one in policies)]),
        temperature=st.sampled_from([0.0, 0.25, 0.7, 1.0, 1.3]),
        alternatives=st.sampled_from([0, 0, 3]),
        region=st.integers(0, 1),
        seed=st.integers(0, 2**62),
        limits=st.sampled_from([NO_LIMITS, *LIMITS]),
    )
    requests = [Request(compiled(policies[0], target)), *draw(st.lists(request, max_size=19))]
    requests = [replace(one, handle=number + 1) for number, one in enumerate(draw(st.permutations(requests)))]
    return size, requests, [draw(st.integers(0, 2)) for _ in requests]


@pytest.mark.slow
@given(mixture=mixtures(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_row_in_a_batch_is_bit_for_bit_what_it_is_alone(
    mixture: tuple[int, list[Request], list[int]], seed: int
) -> None:
    size, requests, starts = mixture
    random = np.random.default_rng(seed)
    together = Run(*requests, vocabulary=size)
    alone = [Run(request, vocabulary=size) for request in requests]
    generated: list[list[int]] = [[] for _ in requests]
    for time in range(5):
        batch = [number for number, start in enumerate(starts) if start <= time]
        random.shuffle(batch)
        policed = [number for number in batch if requests[number].program is not None]
        if not policed:
            continue
        logits = random_logits(len(batch), size, seed=seed + time, scale=float(random.uniform(0.5, 4.0)))
        logits[torch.from_numpy(random.random(logits.shape) < 0.1)] = -torch.inf
        changed = logits.clone()
        record = together.step(changed, generated, batch)
        for row, number in enumerate(batch):
            single = logits[row : row + 1].clone()
            if requests[number].program is not None:
                one = alone[number].step(single, [generated[number]])
                check_same_record(
                    record, policed.index(number), one, [requests[other].alternatives > 0 for other in policed]
                )
            assert torch.equal(changed[row].view(torch.int32), single[0].view(torch.int32)), (
                f"request {number} at step {time}"
            )
        for number in batch:
            if random.random() < 0.8:  # else it is evaluated again
                generated[number].extend(some_tokens(random, 1))
    for number, request in enumerate(requests):
        if request.program is not None and number in together.added:
            check_same_state(together, number, alone[number], request.program)


def check_same_record(record: Record, row: int, alone: Record, detailed: list[bool]) -> None:
    width = alone.numbers.shape[1]
    assert torch.equal(record.numbers[row, :width].view(torch.int32), alone.numbers[0].view(torch.int32))
    assert not record.numbers[row, width:].any(), "rules of other programs"
    assert (record.position[row], record.flags[row]) == (alone.position[0], alone.flags[0])
    if detailed[row]:
        assert record.alternatives is not None
        assert record.probabilities is not None
        assert alone.alternatives is not None
        assert alone.probabilities is not None
        index = sum(detailed[:row])
        assert torch.equal(record.alternatives[index], alone.alternatives[0])
        assert torch.equal(record.probabilities[index].view(torch.int32), alone.probabilities[0].view(torch.int32))


def check_same_state(together: Run, slot: int, alone: Run, program: Program) -> None:
    """After the last step, what the next one starts from."""
    one, other = state_of(together, slot, len(program.rules)), state_of(alone, 0, len(program.rules))
    if not program.word_free:  # without words the word state is unused
        one.pop("word_state"), other.pop("word_state")
    assert one == other


def state_of(run: Run, slot: int, rules: int) -> dict[str, list[float]]:
    slots: TorchSlots | NativeSlots
    if isinstance(run.slots.slots, TorchSlots):
        slots = run.slots.slots
    else:
        slots = run.slots.slots.in_torch if run.slots.slots.takes_torch(slot) else run.slots.slots.native
    if isinstance(slots, TorchSlots):
        core, actions = slots.slots.state.core, slots.slots.state.actions
        assert actions is not None
        pending = sum(1 << rule for rule in range(rules) if core.pending[slot, rule])
        return {
            "place": [int(core.position[slot]), int(core.region[slot])],
            "word_state": [int(core.word_state[slot])],
            "fired": core.fired[slot, :rules].tolist(),
            "pending": [pending],
            "actions": [
                *actions.before[slot, :rules].flatten().tolist(),
                *actions.after[slot, :rules].flatten().tolist(),
            ],
        }
    tables = slots.tables.tables
    cell = tables["cells"][int(tables["slots"][slot, c.STATE]) * slots.tables.depth]
    return {
        "place": [int(cell[c.POSITION]), int(cell[c.IN_REGION])],
        "word_state": [int(cell[c.WORD_STATE])],
        "fired": cell[c.FIRED : c.FIRED + rules].tolist(),
        "pending": [int(cell[c.PENDING])],
    }


NEVER = st.sampled_from(
    [
        {"entropy_above": 50}, {"entropy_below": 0}, {"varentropy_above": 1000}, {"top_probability_above": 1},
        {"after_token": 10**7}, {"region": "answer"}, {"connectors": ["reflection"], "connector_probability_above": 1},
    ]
)  # fmt: skip


@given(
    written=st.lists(
        st.builds(lambda rule, never: {"when": never, "do": rule["do"]}, rules(), NEVER), min_size=1, max_size=6
    ),
    temperatures=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6),
    size=st.sampled_from([SIZE, 3 * 1024 + 17]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_rules_that_never_fire_change_no_logit(
    written: list[Json], temperatures: list[float], size: int, seed: int
) -> None:
    assume(possible(policy(*written), target_of(size)))
    program = compiled(policy(*written), target_of(size))
    requests = [Request(program, temperature, handle=number) for number, temperature in enumerate(temperatures)]
    run = Run(*requests, vocabulary=size)
    random = np.random.default_rng(seed)
    generated: list[list[int]] = [[] for _ in temperatures]
    for time in range(3):
        logits = random_logits(len(temperatures), size, seed=seed + time)
        logits[torch.from_numpy(random.random(logits.shape) < 0.1)] = -torch.inf
        changed = logits.clone()
        record = run.step(changed, generated)
        assert torch.equal(changed, logits)
        assert not (record.flags >> RULES_SHIFT).any()
        assert not record.numbers[:, 4:].any()
        for one in generated:
            one.append(int(random.integers(256, SIZE - 3)))  # not a marker: the reasoning goes on
