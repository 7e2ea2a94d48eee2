"""One step of the kernel: exact logits, the records, and when rules fire."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.kernel.record_flags import FORCED, IN_REASONING, LEFT_ALONE
from forkpoint_policies.kernel.sampling_limits import SamplingLimits
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies import float64_reference
from tests.unit.policies.factories import (
    CPU,
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
    rule,
    step,
)
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, THINK, UNMARKED, VOCABULARY, padded, token, tokens


def ids(*token_ids: int, **fields: Any) -> Json:
    """Tokens by id, for an action."""
    return {"token_ids": list(token_ids), **fields}


def steps(run: Run, generated: list[int], logits: Tensor) -> list[Record]:
    """The records of a single request at each of its positions, with the same logits every time."""
    return [run.step(logits[None].clone(), [generated[:position]]) for position in range(len(generated) + 1)]


# What the actions do to logits.


def test_suppressed_tokens_are_never_sampled() -> None:
    logits = random_logits(SIZE)
    changed, record = apply(policy(rule(suppress=ids(3, 70))), logits)
    assert changed[[3, 70]].tolist() == [-math.inf, -math.inf]
    assert torch.equal(changed.index_fill(0, torch.tensor([3, 70]), 0), logits.index_fill(0, torch.tensor([3, 70]), 0))
    assert fired(record) == [0]


@pytest.mark.parametrize(
    ("action", "bias"), [("suppress", -2.3), ("amplify", 1.7), ("suppress", -1000.0), ("amplify", 1000.0)]
)
def test_a_bias_is_added(action: str, bias: float) -> None:
    logits = random_logits(SIZE)
    changed, _ = apply(policy(rule(**{action: ids(3, 70, bias=bias)})), logits)
    expected = logits.clone()
    expected[[3, 70]] += bias
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.2, 50.0])
def test_a_temperature_divides_the_logits(factor: float) -> None:
    logits = random_logits(SIZE)
    changed, _ = apply(policy(rule(temperature=factor)), logits)
    assert torch.equal(changed, logits / factor)


def test_observing_changes_nothing() -> None:
    logits = random_logits(SIZE)
    changed, record = apply(policy(rule(observe={})), logits)
    assert torch.equal(changed, logits)
    assert (fired(record), effects(record)) == ([0], [0.0])


def test_masks_come_first_then_biases_then_temperature() -> None:
    """In any order of the rules: a bias is divided by every temperature, and no masked token is raised again."""
    logits = random_logits(SIZE)
    raised, lowered = ids(3, 4, bias=5.0), ids(3, bias=-1.5)
    written = policy(rule(temperature=3.0), rule(amplify=raised), rule(suppress=ids(4)), rule(suppress=lowered))
    changed, _ = apply(written, logits)
    expected = logits.clone()
    expected[4] = -math.inf
    expected[3] = expected[3] + 5.0 - 1.5
    assert torch.equal(changed, expected / 3.0)


def test_several_temperatures_multiply() -> None:
    logits = random_logits(SIZE)
    changed, _ = apply(policy(rule(temperature=1.5), rule(temperature=0.5)), logits)
    assert torch.equal(changed, logits / 1.5 / 0.5)


def test_a_token_that_two_names_stand_for_is_changed_once() -> None:
    logits = random_logits(SIZE)
    named = {
        "words": ["wait", "so"],
        "connectors": ["reflection"],
        "token_ids": [token("Wait"), token("Wait")],
        "bias": -1.0,
    }
    changed, _ = apply(policy(rule(suppress=named)), logits)
    assert changed[token("Wait")] == logits[token("Wait")] - 1.0


def test_words_are_suppressed_where_they_would_be_completed() -> None:
    run = Run(Request(compiled(policy(rule(suppress={"words": ["wait", "now"]})))))
    logits = random_logits(SIZE)
    masked = []
    for generated in ([], tokens("k"), tokens("k|w")):  # "kw" writes no word, regardless of what follows
        changed = logits[None].clone()
        run.step(changed, [generated])
        masked.append(torch.isneginf(changed[0]))
    starts, inside = masked[0], masked[1]
    assert starts[tokens("wait|Wait|now|(wait)|wait but")].all()
    assert not starts[tokens("know|ait|other| waiting")].any()
    assert not inside[tokens("wait|Wait|now|wait but")].any()
    assert inside[tokens(" wait|\nWait| now|(wait)")].all(), "these bring the word's beginning with them"
    assert torch.equal(masked[1], masked[2])


def test_a_word_in_pieces_is_suppressed_at_its_last() -> None:
    run = Run(Request(compiled(policy(rule(suppress={"words": ["wait"]})))))
    pieces = ("Wa", "it", "i", "t")
    masked = []
    for generated in ([], tokens("Wa"), tokens("Wa|i")):
        changed = random_logits(1, SIZE)
        run.step(changed, [generated])
        masked.append([piece for piece in pieces if torch.isneginf(changed[0, token(piece)])])
    assert masked == [[], ["it"], ["t"]]


def test_a_request_goes_on_in_the_middle_of_a_word() -> None:
    """As when the prompt ends with an opened word."""
    program = compiled(policy(rule(suppress={"words": ["wait"]})))
    state, _ = program.follow(tokens("so| |Wa"))
    changed, _ = apply(policy(rule(suppress={"words": ["wait"]})), random_logits(SIZE), word_state=state)
    assert torch.isneginf(changed[token("it")])


LATER = {"after_token": 0}  # conditions that always hold, but differ from having none

# Limits of masks, and tokens that a grammar forbids.


def test_a_row_is_left_alone_where_masks_would_leave_no_token() -> None:
    logits = torch.full((SIZE,), -torch.inf)
    logits[[3, 70]] = torch.tensor([1.0, 2.0])
    changed, record = apply(policy(rule(suppress=ids(3, 70)), rule(LATER, amplify=ids(3, bias=0.5))), logits)
    assert changed[[3, 70]].tolist() == [1.5, 2.0], "the other rules still hold"
    assert torch.isneginf(changed).sum() == SIZE - 2
    assert int(record.flags[0]) & LEFT_ALONE
    assert fired(record) == [0, 1]
    assert effects(record)[0] == 0.0


def test_of_two_masks_the_one_that_would_take_the_last_token_does_nothing() -> None:
    logits = torch.full((SIZE,), -torch.inf)
    logits[[3, 70]] = torch.tensor([1.0, 2.0])
    changed, record = apply(policy(rule(suppress=ids(70)), rule(suppress=ids(3, 70)), rule(suppress=ids(9))), logits)
    assert (changed[3].item(), changed[70].item()) == (1.0, -math.inf)
    assert int(record.flags[0]) & LEFT_ALONE
    assert effects(record) == [pytest.approx(float64_reference.distribution(logits.numpy())[70], rel=1e-5), 0.0, 0.0]


def test_a_row_is_left_alone_only_if_necessary() -> None:
    _, record = apply(policy(rule(suppress=ids(3))), random_logits(SIZE))
    assert not int(record.flags[0]) & LEFT_ALONE


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_what_a_grammar_forbids_stays_forbidden(temperature: float) -> None:
    logits = random_logits(SIZE)
    forbidden = torch.arange(SIZE) % 3 != 0
    logits[forbidden] = -torch.inf
    written = policy(
        rule({"connectors": ["reflection"], "connector_probability_above": 0.0}, observe={}),
        rule(amplify={"connectors": ["reflection", "conclusion"], "token_ids": list(range(50)), "bias": 1000.0}),
        rule(suppress={"words": ["so"], "token_ids": list(range(40, 90)), "bias": -3.0}),
        rule(suppress=ids(*range(30, 60))),
        rule(temperature=2.0),
    )
    changed, record = apply(written, logits, temperature=temperature)
    assert torch.isneginf(changed[forbidden]).all()
    assert not changed.isnan().any()
    assert not record.numbers.isnan().any()


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_a_row_without_any_possible_token(temperature: float) -> None:
    """vLLM decides how to sample from it; we neither fail nor invent a number."""
    logits = torch.full((SIZE,), -torch.inf)
    written = policy(
        rule(suppress=ids(3)), rule(amplify=ids(4, bias=2.0)), rule(temperature=2.0), rule(suppress=ids(5, bias=-1.0))
    )
    changed, record = apply(written, logits, temperature=temperature, alternatives=3)
    assert torch.equal(changed, logits)
    assert torch.isfinite(record.numbers).all()
    assert record.numbers[0, 0] == 0
    assert effects(record) == [0.0] * 4
    assert not int(record.flags[0]) & LEFT_ALONE, "no mask removed its last token"
    assert record.probabilities is None or not record.probabilities.any(), "no token has a probability"


# The effect: how much of what is sampled changes.


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    "do",
    [
        {"suppress": ids(3, 70)}, {"suppress": ids(3, 70, bias=-2.0)}, {"amplify": ids(3, 70, bias=2.0)},
        {"temperature": 1.3}, {"observe": {}},
    ],
)  # fmt: skip
def test_the_effect_is_the_total_variation_at_the_requests_temperature(do: Json, temperature: float) -> None:
    logits = random_logits(SIZE, seed=5)
    changed, record = apply(policy(rule(**do)), logits, temperature=temperature)
    before, after = (float64_reference.distribution(values.numpy(), temperature) for values in (logits, changed))
    assert effects(record) == [pytest.approx(float64_reference.distance(before, after), rel=1e-4, abs=1e-6)]


def test_the_effect_of_a_rule_is_what_it_adds() -> None:
    logits = random_logits(SIZE, seed=6, scale=1.0)
    likely = logits.topk(3).indices.tolist()
    suppress, amplify = ids(*likely[:2]), ids(likely[2], bias=3.0)
    _, record = apply(policy(rule(suppress=suppress), rule(amplify=amplify), rule(temperature=0.6)), logits)
    masked = logits.clone()
    masked[likely[:2]] = -torch.inf
    raised = masked.clone()
    raised[likely[2]] += 3.0
    distributions = [
        float64_reference.distribution(values.numpy()) for values in (logits, masked, raised, raised / 0.6)
    ]
    exact = [float64_reference.distance(one, other) for one, other in itertools.pairwise(distributions)]
    assert effects(record) == pytest.approx(exact, rel=1e-4)


def test_the_effect_on_a_greedy_request_is_whether_its_token_changes() -> None:
    logits = random_logits(SIZE)
    best, second = logits.topk(2).indices.tolist()
    gap = (logits[best] - logits[second]).item()
    for do, effect in (
        ({"suppress": ids(best)}, 1.0),
        ({"suppress": ids(second)}, 0.0),
        ({"amplify": ids(second, bias=gap * 0.9)}, 0.0),
        ({"amplify": ids(second, bias=gap * 1.1)}, 1.0),
        ({"temperature": 7.0}, 0.0),
        ({"observe": {}}, 0.0),
    ):
        _, record = apply(policy(rule(**do)), logits, temperature=0.0)
        assert effects(record) == [effect], do


def test_greedy_effects_follow_each_other() -> None:
    logits = random_logits(SIZE)
    best, second = logits.topk(2).indices.tolist()
    masks_and_bias = (
        rule(suppress=ids(best)),
        rule(suppress=ids(best, second)),
        rule(LATER, amplify=ids(best, bias=9.0)),
    )
    _, record = apply(policy(*masks_and_bias), logits, temperature=0.0)
    assert effects(record) == [1.0, 1.0, 0.0], "a masked token is not raised"


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0, 100.0])
@pytest.mark.parametrize(
    "biases",
    [
        (1000.0,),
        (-1000.0,),
        (1000.0, 1000.0),
        (8.0, 8.0),
        (1000.0, -1000.0),
        (-1000.0, 1000.0),
        (60.0, 40.0, -60.0, -40.0),
    ],
)
def test_big_biases_do_not_overflow_the_effect(biases: tuple[float, ...], temperature: float) -> None:
    rules = [
        rule(**{"amplify" if bias > 0 else "suppress": ids(3, 4 + number, bias=bias)})
        for number, bias in enumerate(biases)
    ]
    _, record = apply(policy(*rules, rule(temperature=50.0)), random_logits(SIZE, scale=30.0), temperature=temperature)
    assert not record.numbers.isnan().any()
    assert all(0 <= effect <= 1 for effect in effects(record))


def test_a_bias_has_no_effect_after_another_took_all_the_probability() -> None:
    logits = random_logits(SIZE)
    written = policy(
        rule(amplify=ids(3, bias=1000.0)), rule(amplify=ids(3, bias=1000.0)), rule(suppress=ids(4, bias=-1000.0))
    )
    _, record = apply(written, logits)
    assert effects(record) == pytest.approx([1 - float64_reference.distribution(logits.numpy())[3], 0.0, 0.0], abs=1e-6)


def test_a_big_bias_takes_all_the_probability() -> None:
    logits = random_logits(SIZE)
    worst = int(logits.argmin())
    _, record = apply(policy(rule(amplify=ids(worst, bias=1000.0))), logits)
    assert effects(record)[0] == pytest.approx(1 - float64_reference.distribution(logits.numpy())[worst], rel=1e-5)
    _, record = apply(policy(rule(suppress=ids(*range(1, SIZE), bias=-1000.0))), logits)
    assert effects(record)[0] == pytest.approx(1 - float64_reference.distribution(logits.numpy())[0], rel=1e-5)


# When rules fire.

SPREAD = random_logits(SIZE, seed=8, scale=2.0)
EXACT = float64_reference.distribution(SPREAD.numpy())
SEEN = {
    "entropy": float64_reference.entropy(EXACT),
    "varentropy": float64_reference.varentropy(EXACT),
    "top_probability": float(EXACT.max()),
}


@pytest.mark.parametrize("signal", list(SEEN))
def test_bounds_on_signals(signal: str) -> None:
    value = SEEN[signal]
    little = 1e-3 * value
    for bound, at, expected in (
        ("above", value - little, [0]),
        ("above", value + little, []),
        ("below", value + little, [0]),
        ("below", value - little, []),
    ):
        _, record = apply(policy(rule({f"{signal}_{bound}": at}, observe={})), SPREAD)
        assert fired(record) == expected, (bound, at)


def test_the_record_shows_the_raw_distribution() -> None:
    """At temperature 1, before the request's temperature and any rule is applied."""
    for changes in (policy(rule(observe={})), policy(rule(temperature=5.0), rule(suppress=ids(*range(200))))):
        _, record = apply(changes, SPREAD, temperature=0.3)
        assert record.numbers[0, :3].tolist() == pytest.approx(list(SEEN.values()), rel=1e-4)


def test_the_fork_threshold_is_the_models() -> None:
    for threshold, expected in ((SEEN["entropy"] - 0.01, [0]), (SEEN["entropy"] + 0.01, [1])):
        target = replace(TARGET, fork_threshold=threshold)
        written = policy(rule({"entropy_above": "fork"}, observe={}), rule({"entropy_below": "fork"}, observe={}))
        assert fired(apply(written, SPREAD, target=target)[1]) == expected


def test_all_conditions_must_hold() -> None:
    holds = {"entropy_above": 0.0, "top_probability_below": 1.0, "region": "reasoning", "before_token": 5}
    assert fired(apply(policy(rule(holds, observe={})), SPREAD)[1]) == [0]
    for broken in ({"entropy_above": 49.0}, {"top_probability_below": 0.0}, {"region": "answer"}, {"before_token": 0}):
        assert fired(apply(policy(rule(holds | broken, observe={})), SPREAD)[1]) == [], broken


@pytest.mark.parametrize("likeliest", ["so", " so", "wait", "x"])
def test_the_likeliest_token_completes_a_connector_here(likeliest: str) -> None:
    named = policy(rule({"connectors": ["conclusion"], "connector_likeliest": True}, observe={}))
    exact = policy(rule({"words": ["so", "x"], "match": "token", "connector_likeliest": True}, observe={}))
    logits = torch.full((SIZE,), -5.0)
    logits[tokens("so| so|wait|x")] = torch.tensor([2.0, 1.9, 1.8, 1.7])
    logits[token(likeliest)] = 3.0
    for written, inside in ((named, False), (exact, True)):
        at_start, in_word, _ = steps(Run(Request(compiled(written))), tokens("x|y"), logits)
        counts = likeliest in ("so", " so") or (likeliest == "x" and written is exact)
        assert fired(at_start) == ([0] if counts else [])
        counts_inside = likeliest == " so" or (counts and inside)
        assert fired(in_word) == ([0] if counts_inside else [])


def test_connector_probability_sums_what_completes_a_connector_here() -> None:
    written = policy(rule({"connectors": ["conclusion"], "connector_probability_above": 0.2}, observe={}))
    logits = torch.full((SIZE,), -5.0)
    logits[tokens("so| so|wait")] = torch.tensor([2.0, 1.0, 3.0])
    exact = float64_reference.distribution(logits.numpy())
    run = Run(Request(compiled(written)))
    starts, inside, again = steps(run, tokens("x| "), logits)
    counted = [
        one
        for one, text in enumerate(VOCABULARY.tokens)
        if text.lower() in {b"so", b" so", b", so", b", so,", b" so so"}
    ]
    anywhere = [one for one in counted if VOCABULARY.tokens[one].lower() != b"so"]
    assert starts.numbers[0, 3].item() == pytest.approx(exact[counted].sum(), rel=1e-2)
    assert starts.numbers[0, 3] > inside.numbers[0, 3] * 2
    assert inside.numbers[0, 3].item() == pytest.approx(exact[anywhere].sum(), rel=1e-2)
    assert again.numbers[0, 3].item() == starts.numbers[0, 3].item()
    assert [fired(record) for record in (starts, inside, again)] == [[0], [], [0]]


def test_the_region_changes_at_the_markers() -> None:
    """A marker still belongs to the region that it ends; the other region starts after it."""
    program = compiled(
        policy(rule({"region": "reasoning"}, observe={}), rule({"region": "answer"}, observe={}), rule(observe={}))
    )
    generated = [*tokens("so|wait"), END_THINK, *tokens("now"), THINK, *tokens("but")]
    records = steps(Run(Request(program)), generated, SPREAD)
    assert [fired(record) for record in records] == [[0, 2], [0, 2], [0, 2], [1, 2], [1, 2], [0, 2], [0, 2]]
    assert [bool(int(record.flags[0]) & IN_REASONING) for record in records] == [
        True,
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    records = steps(Run(Request(program, region=Region.ANSWER)), tokens("so"), SPREAD)
    assert [fired(record) for record in records] == [[1, 2], [1, 2]], "the prompt had closed the reasoning"


def test_without_markers_all_is_reasoning() -> None:
    program = compiled(
        policy(rule({"region": "reasoning"}, observe={}), rule({"region": "answer"}, observe={})), UNMARKED
    )
    records = steps(Run(Request(program)), [THINK, END_THINK, *tokens("so")], SPREAD)
    assert [fired(record) for record in records] == [[0]] * 4


def test_positions() -> None:
    whens: list[Json] = [{"after_token": 2}, {"before_token": 3}, {"after_token": 1, "before_token": 4}]
    program = compiled(policy(*(rule(when, observe={}) for when in whens)))
    records = steps(Run(Request(program)), tokens("a|b|c|d|e"), SPREAD)
    assert [fired(record) for record in records] == [[1], [1, 2], [0, 1, 2], [0, 2], [0], [0]]
    assert [int(record.position[0]) for record in records] == [0, 1, 2, 3, 4, 5]


def test_at_most_counts_committed_tokens() -> None:
    """A position that is evaluated several times before its token is committed, as long prompts are, counts once."""
    program = compiled(policy(rule({"at_most": 2}, observe={}), rule({"at_most": 1, "after_token": 1}, observe={})))
    run, generated = Run(Request(program)), tokens("a|b|c")
    seen = [fired(run.step(SPREAD[None].clone(), [generated[:position]])) for position in (0, 0, 0, 1, 1, 2, 2, 3)]
    assert seen == [[0], [0], [0], [0, 1], [0, 1], [], [], []]


def test_at_most_counts_the_last_evaluation_of_a_position() -> None:
    """Only the conditions that held when the token was sampled count."""
    run, generated = (
        Run(Request(compiled(policy(rule({"at_most": 1, "entropy_above": 1.0}, observe={}))))),
        tokens("a|b"),
    )
    flat, sharp = SPREAD[None], SPREAD[None] * 100
    assert fired(run.step(flat.clone(), [[]])) == [0]
    assert fired(run.step(sharp.clone(), [[]])) == []
    assert fired(run.step(flat.clone(), [generated[:1]])) == [0], "its last evaluation at position 0 did not fire"
    assert fired(run.step(flat.clone(), [generated])) == []


def test_at_most_counts_in_shadow_too() -> None:
    run = Run(Request(compiled(policy(rule({"at_most": 1}, suppress=ids(3)), shadow=True))))
    assert [fired(record) for record in steps(run, tokens("a|b"), SPREAD)] == [[0], [], []]


def test_sixteen_rules_are_recorded_separately() -> None:
    rules = [rule({"after_token": number}, observe={}) for number in range(16)]
    records = steps(Run(Request(compiled(policy(*rules)))), [token("a")] * 16, SPREAD)
    assert [fired(record) for record in records] == [list(range(min(position, 15) + 1)) for position in range(17)]
    assert int(records[-1].flags[0]) < 2**31, "flags travel as int32"


def test_a_policy_without_rules() -> None:
    changed, record = apply(policy(), SPREAD)
    assert torch.equal(changed, SPREAD)
    assert (fired(record), record.numbers.shape) == ([], (1, 4))


# Shadow, alternatives, and rows without a policy.


def test_shadow_records_what_it_would_have_done() -> None:
    second = int(SPREAD.topk(2).indices[1])
    written = policy(
        rule(suppress={"connectors": ["reflection"]}),
        rule(amplify=ids(second, bias=5.0)),
        rule(temperature=1.5),
        rule({"entropy_above": 40.0}, observe={}),
    )
    for temperature in (0.0, 0.7):
        changed, acted = apply(written, SPREAD, temperature=temperature, alternatives=2)
        unchanged, shadowed = apply(written | {"shadow": True}, SPREAD, temperature=temperature, alternatives=2)
        assert not torch.equal(changed, SPREAD)
        assert torch.equal(unchanged, SPREAD)
        assert torch.equal(shadowed.numbers, acted.numbers)
        assert torch.equal(shadowed.flags, acted.flags)
        assert sum(effects(shadowed)) > 0


@pytest.mark.parametrize("forbidden", [[], [0, 5, 9]])
def test_self_certainty_is_the_divergence_from_the_uniform_distribution(forbidden: list[int]) -> None:
    """arXiv:2502.18581: -1/V sum ln(V p), over the tokens that are allowed; only trees use it."""
    logits = random_logits(SIZE)
    logits[forbidden] = -math.inf
    _, record = apply(policy(rule(branch={})), logits, temperature=0.4, alternatives=4)
    allowed = torch.log_softmax(logits[logits > -math.inf].double(), dim=0)
    expected = float(-(allowed + math.log(len(allowed))).mean())
    assert record.certainty is not None
    assert record.certainty.tolist() == [pytest.approx(expected, rel=1e-5)]
    unread = apply(policy(rule(observe={})), logits, alternatives=4)[1].certainty
    assert unread is not None
    assert unread.tolist() == [0.0], "only policies that branch have it"


def test_alternatives_are_the_likeliest_tokens_before_any_change() -> None:
    likely = SPREAD.topk(4).indices.tolist()
    _, record = apply(policy(rule(suppress=ids(*likely))), SPREAD, temperature=0.4, alternatives=4)
    assert record.alternatives is not None
    assert record.probabilities is not None
    assert record.alternatives.tolist() == [likely]
    assert record.probabilities[0].numpy() == pytest.approx(-EXACT[likely], rel=1e-5), (
        "negative, as they can no longer be sampled"
    )
    _, record = apply(policy(rule(observe={})), SPREAD)
    assert record.alternatives is None


def test_rows_without_a_policy_are_not_touched() -> None:
    program = compiled(policy(rule(suppress=ids(*range(100))), rule(temperature=2.0)))
    run = Run(Request(None), Request(program), Request(None), Request(program), Request(None))
    logits = random_logits(5, SIZE)
    changed = logits.clone()
    record = run.step(changed, [[]] * 5)
    assert torch.equal(changed[[0, 2, 4]], logits[[0, 2, 4]])
    assert torch.equal(changed[[1, 3], 100:], logits[[1, 3], 100:] / 2.0)
    assert len(record.position) == 2


def test_a_signal_that_another_request_bounds_changes_nothing_here() -> None:
    """Where a grammar forbids the end of the reasoning, the distance to it is infinite; that bounds no other rule."""
    watch = compiled(policy(rule(observe={})))
    near = compiled(policy(rule({"end_of_reasoning_within": 0.5}, end_reasoning={})))
    masked = SPREAD.clone()
    masked[END_THINK] = -torch.inf
    record = Run(Request(watch), Request(near)).step(masked.repeat(2, 1), [[], []])
    assert (fired(record, 0), fired(record, 1)) == ([0], [])


def test_confidence_where_a_grammar_leaves_few_tokens() -> None:
    """Such a position counts with the tokens that are left, and later ones count as usual."""
    program = compiled(policy(rule({"confidence_below": 50.0, "confidence_window": 2}, observe={})))
    few = torch.full_like(SPREAD, -torch.inf)
    few[:5] = 0.0
    run, seen, generated = Run(Request(program)), [], tokens("x|y|x|y|x|y|x")
    for position in range(8):
        logits = (few if position == 3 else SPREAD)[None].clone()
        seen.append(fired(run.step(logits, [generated[:position]])))
    assert seen == [[], *[[0]] * 7]


def test_pieces_of_a_recomputed_prompt_count_for_no_rule() -> None:
    """After a preemption V2 computes what a request had generated like a prompt, in pieces that end before it."""
    slots = PolicySlots(1, SIZE, CPU)
    generated = tokens("x|y|x")
    payload = Request(compiled(policy(rule({"at_most": 2}, observe={})))).payload()
    slots.add(0, payload, 1.0, [])

    def at(position: int) -> Record:
        last = generated[position - 1] if position > 0 else 0
        return step(slots, [0], [position], [last], SPREAD[None].clone())

    assert [fired(at(position)) for position in (0, 1)] == [[0], [0]]
    slots.add(0, payload, 1.0, generated[:1])
    piece = at(-3)
    assert piece.position.tolist() == [NONE]
    assert [fired(at(position)) for position in (1, 2)] == [[0], []]


@pytest.mark.parametrize("first", [{"truncate": {"top_k": 1}}, {"temperature": 0}, {"temperature": 0.02}])
def test_a_row_is_never_left_without_a_token(first: Json) -> None:
    """If only a rule's own tokens are left, the rule does not prevent them from being sampled."""
    target = int(SPREAD.argmax())
    written = policy({"when": {}, "do": first}, rule(force={"text": "so", "instead_of": ids(target)}))
    program, alone = compiled(written), 0
    logits = SPREAD.repeat(40, 1)
    record = Run(*(Request(program, seed=seed) for seed in range(40))).step(logits, [[]] * 40)
    assert (logits > -torch.inf).any(dim=-1).all()
    alone = int(((record.flags & LEFT_ALONE) > 0).sum())
    forced = int(((record.flags & FORCED) > 0).sum())
    assert forced > 0
    assert alone == (40 - forced if first != {"temperature": 0.02} else 0)


@pytest.mark.parametrize("factor", [1e-38, 1e-60])
def test_the_smallest_temperatures(factor: float) -> None:
    after, _ = apply(policy(rule(temperature=factor)), SPREAD)
    assert torch.isfinite(after).all()
    assert int(after.argmax()) == int(SPREAD.argmax())
    assert float(torch.softmax(after, -1).max()) == pytest.approx(1.0)


def test_rules_that_replace_tokens_act_as_often_as_these_are_sampled() -> None:
    """Each of two rules does, the second as well although the first is evaluated before it."""
    logits = torch.full((SIZE,), -30.0)  # not -inf: a text with a forbidden token is not written
    logits[[7, 8, 9]] = torch.tensor([0.5, 0.3, 0.2]).log()
    two = policy(*(rule(force={"text": text, "instead_of": ids(one)}) for text, one in (("so", 7), ("wait", 8))))
    record = Run(*(Request(compiled(two), seed=seed) for seed in range(4000))).step(logits.repeat(4000, 1), [[]] * 4000)
    times = [sum(fired(record, row) == [rule] for row in range(4000)) for rule in (0, 1)]
    assert times == [pytest.approx(2000, abs=130), pytest.approx(1200, abs=120)]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize(
    ("limits", "possible"),
    [
        (SamplingLimits(), [7, 8, 9, 10]),
        (SamplingLimits(top_k=3), [7, 8, 9]),
        (SamplingLimits(top_p=0.75), [7, 8]),
        (SamplingLimits(min_p=0.45), [7, 8]),
        (SamplingLimits(top_k=3, top_p=0.9), [7, 8, 9]),
        (SamplingLimits(top_k=2, top_p=0.2, min_p=0.1), [7]),
    ],
)
def test_under_limits_a_rule_replaces_tokens_as_often_as_they_would_be_sampled(
    temperature: float, limits: SamplingLimits, possible: list[int]
) -> None:
    """And what the limits exclude is sampled nowhere else: not even where the rule's own tokens are not."""
    shares = {7: 0.5, 8: 0.3, 9: 0.15, 10: 0.05}
    logits = torch.full((SIZE,), -30.0)
    logits[list(shares)] = torch.tensor(list(shares.values())).log() * temperature
    left = sum(shares[one] for one in possible)
    expected = sum(shares[one] for one in (8, 10) if one in possible) / left
    written = policy(rule(force={"text": "so", "instead_of": ids(8, 10)}))
    program, count = compiled(written), 2000
    run = Run(*(Request(program, temperature, seed=seed, limits=limits) for seed in range(count)))
    after = logits.repeat(count, 1)
    record = run.step(after, [[]] * count)
    assert record.numbers[:, 4].tolist() == pytest.approx([expected] * count, abs=1e-5)
    forced = record.flags & FORCED > 0
    assert abs(float(forced.float().mean()) - expected) <= 4 * math.sqrt(expected * (1 - expected) / count)
    others = after[~forced][:, list(shares)] > -torch.inf
    assert others.tolist() == [[one in possible and one not in (8, 10) for one in shares]] * len(others)


def test_a_greedy_request_has_no_limits() -> None:
    logits = random_logits(SIZE)
    written = policy(rule(force={"text": "so", "instead_of": ids(int(logits.argmax()))}))
    for limits in (SamplingLimits(), SamplingLimits(top_k=1, top_p=0.1)):
        _, record = apply(written, logits, temperature=0.0, limits=limits)
        assert int(record.flags[0]) & FORCED
        assert effects(record) == [1.0]


@pytest.mark.parametrize("limits", [SamplingLimits(top_k=300), SamplingLimits(top_p=0.97), SamplingLimits(top_k=5)])
def test_limits_in_a_large_vocabulary(limits: SamplingLimits) -> None:
    """More possible tokens than are put in order, and another rule that acts before."""
    size = 3000
    logits = random_logits(size, scale=0.3)
    written = policy(rule(temperature=1.5), rule(force={"text": "so", "instead_of": ids(*range(0, size, 2))}))
    target = replace(TARGET, vocabulary=padded(size))
    _, record = apply(written, logits, target=target, limits=limits)
    share = logits.double().softmax(-1)
    ordered = share.sort(descending=True)
    count = limits.top_k or int((ordered.values.cumsum(0) < limits.top_p).sum()) + 1
    chosen = ordered.indices[:count]
    expected = float(share[chosen[chosen % 2 == 0]].sum() / share[chosen].sum())
    assert effects(record)[1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("bias", "others"), [(-45.0, 387), (-30.0, 387), (-12.0, 3)])
def test_the_effect_of_taking_nearly_all_the_probability(bias: float, others: int) -> None:
    logits = torch.full((SIZE,), -torch.inf)
    logits[: others + 1] = 0.0
    logits[3] = 40.0
    _, record = apply(policy(rule(suppress=ids(3) | {"bias": bias})), logits)
    before = 1 / (1 + others * math.exp(-40))
    after = 1 / (1 + others * math.exp(-40 - bias))
    assert effects(record) == [pytest.approx(before - after, rel=1e-4, abs=1e-7)]


def test_in_shadow_a_rule_that_replaces_tokens_waits_for_the_token() -> None:
    """Its record says that the conditions held, and it has fired where the next token is one of its own."""
    written = policy(rule({"at_most": 1}, force={"text": "so", "instead_of": {"words": ["wait"]}}))
    run, fires = Run(Request(compiled({**written, "shadow": True}))), []
    generated = tokens("x| so|(wait)| now|x")
    for position in range(len(generated) + 1):
        logits = SPREAD[None].clone()
        fires.append(fired(run.step(logits, [generated[:position]])))
        assert torch.equal(logits[0], SPREAD)
    assert fires == [[0]] * 3 + [[]] * 3  # at most once: at the third token


def test_in_shadow_the_same_requests_trigger_as_when_the_rule_acts() -> None:
    """What replaces the end of the reasoning, in a fifth of the positions of hundreds of texts of eight tokens."""
    logits = torch.full((SIZE,), -30.0)
    logits[[7, 8, END_THINK]] = torch.tensor([0.5, 0.3, 0.2]).log()
    written = policy(rule({"at_most": 1}, force={"text": "so", "instead_of": "end_of_reasoning"}))
    count, length, generator = 600, 8, torch.Generator().manual_seed(3)
    triggered = {}
    for shadow in (True, False):
        run = Run(*(Request(compiled({**written, "shadow": shadow}), seed=seed) for seed in range(count)))
        generated: list[list[int]] = [[] for _ in range(count)]
        first = [length] * count
        for position in range(length):
            changed = logits.repeat(count, 1)
            record = run.step(changed, generated)
            sampled = torch.multinomial(changed.softmax(-1), 1, generator=generator).flatten().tolist()
            for number, one in enumerate(sampled):
                if fired(record, number) and (not shadow or one == END_THINK) and first[number] == length:
                    first[number] = position
                generated[number].append(one)
        triggered[shadow] = torch.tensor(first)
        ends = torch.tensor([(one.index(END_THINK) if END_THINK in one else length) for one in generated])
        assert torch.equal(triggered[shadow], ends) if shadow else bool((triggered[shadow] <= ends).all())
    by_then = torch.arange(1, length + 1)
    for first_position in triggered.values():
        shares = (first_position[:, None] < by_then).float().mean(dim=0)
        assert torch.allclose(shares, 1 - 0.8**by_then, atol=0.07)
