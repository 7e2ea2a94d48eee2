"""Placebos act on tokens or positions sampled from the seed, as often or as much as what they control for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import CompiledPolicy, compile_policy
from forkpoint_policies.kernel.device_rules import SET_CHUNK
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import InputError, Match, parse_policy

from .factories import Json, Request, Run, effects, fired, policy, random_logits, rule
from .vocabularies import END_THINK, SIZE, TARGET, token, tokens

WORDS = {"words": ["wait", "so", "now"]}
UNSURE = random_logits(SIZE, scale=1.5)


def control(written: Json, match: Match, strength: float | None = None) -> CompiledPolicy:
    return compile_policy(placebo_of(parse_policy({"name": "it", **written}), match, strength=strength), TARGET)


def request(made: CompiledPolicy, seed: int, **options: Any) -> Request:
    return Request(made.program, seed=seed, sampled=made.placebo_tokens(seed), **options)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    "do",
    [
        {"suppress": WORDS},
        {"suppress": WORDS | {"bias": -1.5}},
        {"amplify": WORDS | {"bias": 2.0}},
        {"truncate": {"min_p": 0.01}},
    ],
    ids=["mask", "lower", "raise", "truncate"],
)
def test_the_same_probability_is_moved_between_other_tokens(do: Json, temperature: float) -> None:
    written = policy({"when": {}, "do": do})
    plain, placebo = compile_policy(parse_policy(written), TARGET), control(written, "probability")
    after, moved = UNSURE[None].clone(), UNSURE.repeat(20, 1)
    expected = effects(Run(Request(plain.program, temperature)).step(after, [[]]))[0]
    record = Run(*(request(placebo, seed, temperature=temperature) for seed in range(20))).step(moved, [[]] * 20)
    assert record.numbers[:, 4].tolist() == pytest.approx([expected] * 20, rel=2e-3)
    shares = [torch.softmax(one / temperature, -1) for one in (UNSURE, *moved)]
    assert [float((one - shares[0]).abs().sum() / 2) for one in shares[1:]] == pytest.approx([expected] * 20, rel=2e-3)
    touched = after[0] != UNSURE
    assert not (moved != UNSURE)[:, touched].any(), "the rule's own tokens are left alone"
    assert len({tuple((one != UNSURE).nonzero().flatten().tolist()) for one in moved}) > 10, "sampled by the seed"


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    "do", [{"suppress": WORDS}, {"suppress": WORDS | {"bias": -1.5}}, {"amplify": WORDS | {"bias": 2.0}}]
)
def test_a_dose_moves_other_tokens_apart_and_leaves_the_policys_own(do: Json, temperature: float) -> None:
    made = control(policy({"when": {"entropy_above": 40.0}, "do": do}), "dose", strength=3.0)
    plain, moved = UNSURE[None].clone(), UNSURE.repeat(20, 1)
    Run(Request(compile_policy(parse_policy(policy(rule(**do))), TARGET).program)).step(plain, [[]])
    own = plain[0] != UNSURE
    record = Run(*(request(made, seed, temperature=temperature) for seed in range(20))).step(moved, [[]] * 20)
    before, after = torch.softmax(UNSURE / temperature, -1), torch.softmax(moved / temperature, -1)
    assert not (moved != UNSURE)[:, own].any()
    assert torch.allclose(after[:, own], before[own].expand(20, -1), rtol=1e-4, atol=1e-8), (
        "they keep their probability"
    )
    distances = (after - before).abs().sum(-1) / 2
    assert record.numbers[:, 4].tolist() == pytest.approx(distances.tolist(), rel=1e-4)
    assert len({round(float(one), 6) for one in distances}) > 10, "sampled by the seed"
    for row in moved:
        up, down = (row - UNSURE)[row > UNSURE], (row - UNSURE)[row < UNSURE]
        assert up.max() - up.min() < 1e-5
        assert down.max() - down.min() < 1e-5
        assert float(up.mean() - down.mean()) == pytest.approx(3.0, abs=1e-4), "the strength, in nats"


def test_a_dose_reaches_where_the_policys_words_hold_nearly_all() -> None:
    """The words hold 95% at one position in ten: moving the rest there reaches a twentieth of the policy's dose."""
    logits = random_logits(10, SIZE, scale=3.0)
    word = token("Wait")
    logits[0, word] = logits[0].logsumexp(-1) + np.log(19)
    written = policy(rule(suppress=WORDS))
    doses = {}
    for name, made in {
        "policy": compile_policy(parse_policy(written), TARGET),
        "probability": control(written, "probability"),
        "1": control(written, "dose", 1.0),
        "4": control(written, "dose", 4.0),
        "16": control(written, "dose", 16.0),
    }.items():
        run, found = Run(*(request(made, seed) for seed in range(20))), []
        for position in range(10):
            record = run.step(logits[position].repeat(20, 1), [[token("x")] * position] * 20)
            found.append(record.numbers[:, 4].mean().item())
        doses[name] = float(np.mean(found))
    assert doses["probability"] < 0.5 * doses["policy"]
    assert doses["1"] < doses["4"] < doses["16"], "it rises with the strength"
    assert doses["16"] > doses["policy"]


def test_a_dose_of_a_truncation_or_a_temperature_moves_all_tokens() -> None:
    for written in (policy(rule(truncate={"min_p": 0.1})), policy(rule({"entropy_above": 1.0}, temperature=2.0))):
        made = control(written, "dose", strength=2.0)
        record = Run(request(made, 3)).step(UNSURE[None].clone(), [[]])
        assert fired(record) == [0]
        assert effects(record)[0] > 0.1


def test_a_dose_stays_in_the_rules_region_and_range_of_tokens() -> None:
    when = {"region": "reasoning", "after_token": 2, "before_token": 5, "every": 2, "at_most": 1, "entropy_above": 40.0}
    made = control(policy({"when": when, "do": {"suppress": WORDS}}), "dose", strength=2.0)
    run, acted = Run(request(made, 3)), []
    for position in range(8):
        text = [token("x")] * position
        acted.append(fired(run.step(UNSURE[None].clone(), [text])) == [0])
    assert acted == [False, False, True, True, True, False, False, False]
    ended = Run(request(made, 3))
    ended.step(UNSURE[None].clone(), [[token("x")] * 3])
    assert not fired(ended.step(UNSURE[None].clone(), [[token("x")] * 3 + [END_THINK]]))


def test_a_dose_has_a_strength_and_no_other_match_has() -> None:
    like = rule(suppress=WORDS)
    for wrong, right in (
        ({"like": like, "match": "dose"}, "needs a `strength`"),
        ({"like": like, "match": "count", "strength": 1.0}, "is of match `dose`"),
        ({"like": like, "match": "dose", "strength": 41.0}, "less than or equal to 40|at most 40"),
    ):
        with pytest.raises(InputError, match=right):
            parse_policy(policy(rule(control=wrong)))


def test_as_many_tokens_are_sampled_once_per_request() -> None:
    placebo = control(policy(rule(suppress=WORDS)), "count")
    banned = []
    for seed in (1, 1, 2):
        run, sets = Run(request(placebo, seed)), []
        for position in range(3):
            after = UNSURE[None].clone()
            run.step(after, [tokens("x|y|x")[:position]])
            sets.append(frozenset(torch.isneginf(after[0]).nonzero().flatten().tolist()))
        assert len(set(sets)) == 1, "the same at every position"
        banned.append(sets[0])
    assert banned[0] == banned[1] != banned[2]
    itself = compile_policy(parse_policy(policy(rule(suppress=WORDS))), TARGET).program.rules[0].target
    assert len(banned[0]) == len({one for one, state in zip(itself.tokens, itself.states, strict=True) if state <= 0})
    assert not banned[0] & set(itself.tokens)


def test_a_large_sampled_set_is_independent_of_the_batch() -> None:
    many = control(policy(rule(suppress={"token_ids": list(range(100, 100 + SET_CHUNK + 9))})), "count")
    small = control(policy(rule(suppress={"token_ids": [5]})), "count")
    requests = [request(many, 3), request(small, 4)]
    together = UNSURE.repeat(2, 1)
    Run(*requests).step(together, [[], []])
    for number, one in enumerate(requests):
        alone = UNSURE[None].clone()
        Run(one).step(alone, [[]])
        assert torch.equal(alone[0], together[number])


def test_tokens_of_the_same_frequency() -> None:
    weights = np.random.default_rng(0).dirichlet(np.full(SIZE - 3, 0.3))
    target = replace(TARGET, frequencies=dict(enumerate(weights.tolist())))
    made = compile_policy(placebo_of(parse_policy({"name": "it", **policy(rule(suppress=WORDS))}), "frequency"), target)
    itself = compile_policy(parse_policy(policy(rule(suppress=WORDS))), TARGET).program.rules[0].target
    own = sum(weights[one] for one, state in zip(itself.tokens, itself.states, strict=True) if state <= 0)
    sampled_sets = [made.placebo_tokens(seed)[0] for seed in range(30)]
    assert all(sum(weights[one] for one in some) == pytest.approx(own, rel=0.3) for some in sampled_sets)
    assert np.mean([sum(weights[one] for one in some) for some in sampled_sets]) == pytest.approx(own, rel=0.1)
    assert not {one for some in sampled_sets for one in some} & target.connectors
    assert len({tuple(some) for some in sampled_sets}) == 30


def test_a_forced_text_is_replaced_by_one_of_as_many_tokens_as_frequent_as_its_own() -> None:
    weights = np.sort(np.random.default_rng(0).dirichlet(np.full(SIZE, 0.3)))[::-1]
    shuffled = {token_: number for number, token_ in enumerate(np.random.default_rng(1).permutation(SIZE).tolist())}
    own = token("Wait")
    for rank in (0, SIZE // 2, SIZE - 1):  # the most frequent token, one in the middle, and the rarest
        order = sorted(
            shuffled, key=lambda one: (one != own) if rank == 0 else (one == own) if rank == SIZE - 1 else shuffled[one]
        )
        target = replace(TARGET, frequencies={one: float(weights[number]) for number, one in enumerate(order)})
        made = compile_policy(
            placebo_of(parse_policy({"name": "it", **policy(rule(force={"text": "Wait"}))}), "frequency"), target
        )
        sampled_sets = [made.placebo_tokens(seed)[0] for seed in range(20)]
        assert {len(some) for some in sampled_sets} == {1}
        assert {own} not in [set(some) for some in sampled_sets]
    never = replace(TARGET, frequencies=dict.fromkeys(range(300, 310), 0.1))
    made = compile_policy(
        placebo_of(parse_policy({"name": "it", **policy(rule(force={"text": "Wait"}))}), "frequency"), never
    )
    assert all(300 <= one < 310 for seed in range(5) for one in made.placebo_tokens(seed)[0]), (
        "also for a text that the model never wrote"
    )


def test_a_set_rarer_than_any_token_is_replaced_by_the_rarest() -> None:
    target = replace(TARGET, frequencies={one: 0.01 * (1 + one - 300) for one in range(300, 310)})
    made = compile_policy(placebo_of(parse_policy({"name": "it", **policy(rule(suppress=WORDS))}), "frequency"), target)
    assert made.placebo_tokens(1) == {0: [300]}


def test_too_few_tokens_to_sample_from() -> None:
    most = {"token_ids": list(range(SIZE - 5))}
    with pytest.raises(InputError, match="other tokens to draw from"):
        control(policy(rule(suppress=most)), "count")


def test_a_name_too_long_for_a_placebo() -> None:
    with pytest.raises(InputError, match="at most 56 characters"):
        placebo_of(parse_policy({"name": "x" * 57, **policy(rule(suppress=WORDS))}))


def test_frequencies_need_a_calibration() -> None:
    with pytest.raises(InputError, match="not calibrated"):
        control(policy(rule(suppress=WORDS)), "frequency")


def test_as_many_positions_at_random() -> None:
    """Conditions that hold at a third of the positions: the placebo acts at a third of them, elsewhere."""
    written = policy(rule({"entropy_above": 3.0}, temperature=2.0), rule({"entropy_below": 3.0}, temperature=0.5))
    program, count, length = control(written, "positions").program, 40, 60
    run = Run(*(Request(program, seed=seed) for seed in range(count)))
    high, low = random_logits(SIZE, scale=1.0), random_logits(SIZE, scale=6.0)
    acted = np.zeros((count, length), int)
    for position in range(length):
        record = run.step((high if position % 3 == 0 else low).repeat(count, 1), [[token("x")] * position] * count)
        both = [fired(record, row) for row in range(count)]
        assert all(len(one) == 1 for one in both), "rules that exclude each other still exclude each other"
        acted[:, position] = [one == [0] for one in both]
    assert acted[:, 15:].mean() == pytest.approx(1 / 3, abs=0.04)
    assert acted[:, 15::3].mean() == pytest.approx(acted[:, 16::3].mean(), abs=0.12), "not where the entropy is high"


def test_a_rule_that_replaces_a_sampled_token_is_controlled_by_chance() -> None:
    """budget-force acts where the end would be sampled, with probability 0.2 here; its placebo as often, anywhere."""
    logits = torch.zeros(SIZE)
    logits[END_THINK] = float(np.log(0.2 / 0.8 * (SIZE - 1)))
    program = compile_policy(placebo_of(LIBRARY["budget-force"].use({"times": 1000}), "positions"), TARGET).program
    run, count = Run(*(Request(program, seed=seed) for seed in range(300))), 0
    for position in range(20):
        after = logits.repeat(300, 1)
        record = run.step(after, [[token("x")] * position] * 300)
        count += sum(bool(fired(record, row)) for row in range(300))
        free = torch.tensor([not fired(record, row) for row in range(300)])
        assert torch.equal(after[free], logits.repeat(300, 1)[free]), "elsewhere the end may be sampled"
    assert count / 6000 == pytest.approx(0.2, abs=0.025)


def test_a_temperature_by_entropy_gets_one_of_the_past() -> None:
    program = compile_policy(placebo_of(LIBRARY["entropy-temperature"].policy), TARGET).program
    run, high, low = (
        Run(*(Request(program, seed=seed) for seed in range(200))),
        random_logits(SIZE),
        random_logits(SIZE, scale=8.0),
    )
    factors = []
    for position in range(40):
        logits = high if position % 2 else low
        after = logits.repeat(200, 1)
        run.step(after, [[token("x")] * position] * 200)
        if position >= 20:
            factors += (logits[7] / after[:, 7]).tolist()
    assert len({round(factor, 2) for factor in factors}) == 2, "one temperature per entropy"
    assert np.mean(np.array(factors) > np.median([min(factors), max(factors)])) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", [name for name in LIBRARY if matches_of(LIBRARY[name].policy)])
def test_each_policy_of_the_library_has_a_placebo(name: str) -> None:
    entry = LIBRARY[name]
    for match in matches_of(entry.policy):
        placebo = placebo_of(entry.policy, match, strength=2.0 if match == "dose" else None)
        assert placebo.name == f"{name}.placebo"
        assert parse_policy(placebo.model_dump(mode="json", exclude_unset=True)) == placebo
        if match != "frequency":
            compile_policy(placebo, TARGET)


def test_the_library_is_whole() -> None:
    assert {name for name in LIBRARY if not matches_of(LIBRARY[name].policy)} == {"reasoning-cap"}, "a control itself"


WRONG: dict[str, tuple[Json, str]] = {
    "another kind": (rule(temperature=2.0), "nothing, as it does the same at every position"),
    "a kind for sets": ({"when": {"entropy_above": 1}, "do": {"stop": {}}}, "matched by positions; not by 'count'"),
}


@pytest.mark.parametrize(("like", "right"), WRONG.values(), ids=WRONG.keys())
def test_meaningless_kinds_of_match_are_rejected(like: Json, right: str) -> None:
    written = policy(rule(control={"like": like, "match": "count"}))
    with pytest.raises(InputError, match=right) as caught:
        compile_policy(parse_policy(written), TARGET)
    assert caught.value.field == "policy.rules[0].do.control.match"


def test_a_policy_without_a_placebo() -> None:
    always = parse_policy({"name": "hot", **policy(rule(temperature=2.0))})
    assert matches_of(always) == ()
    with pytest.raises(InputError, match="no placebo"):
        placebo_of(always)
