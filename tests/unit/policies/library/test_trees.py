"""Policies that run several engine requests follow their publications, with the published constants."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, CompiledRule, RegionCode, Signal
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy
from forkpoint_server.branching.choice_output import text_of
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.branching.top_entropy import top_entropy
from forkpoint_server.requests.progress import BRANCH_ALTERNATIVES, num_alternatives, open_traces
from forkpoint_server.traces.likeliest import confidence_of
from tests.unit.policies.factories import apply, fired
from tests.unit.policies.vocabularies import END, END_THINK, SIZE, TARGET, tokens
from tests.unit.server.branching.stub_engine import A, B, C, StubTree, rest


def tree_rule(policy: Policy) -> CompiledRule:
    program = compile_policy(policy, TARGET).program
    assert program.tree_rule_index is not None
    return program.rules[program.tree_rule_index]


def in_full(name: str, **values: Any) -> Policy:
    return LIBRARY[name].use(values)


def test_eager_branches_into_the_top_two_above_the_threshold_until_n_leaves() -> None:
    """DanielSc4/EAGer's README has a threshold of 2.0 for EAGer-init; branches until the request has its answers."""
    for values, nats in (({}, 2.0), ({"entropy": 2.4}, 2.4)):
        policy = in_full("branch", **values)
        branch = policy.rules[0].do.branch
        assert branch is not None
        assert (tree_rule(policy).low[Signal.ENTROPY], branch.top_entropy_above) == (nats, nats)
        assert (branch.top_entropy_of, branch.width, tree_rule(policy).region) == (20, 1, RegionCode.ANY)
    tree = StubTree(in_full("branch", entropy=0.5), rest, answers=5)
    nodes = tree.run()
    assert len(nodes) == 5
    assert nodes[1].forced_tokens == (B,), "A was sampled, B is the likeliest other one"


@pytest.mark.parametrize(("probabilities", "branches"), [((0.34, 0.33, 0.33), True), ((0.6, 0.3, 0.1), False)])
def test_eager_compares_the_entropy_of_the_likeliest_tokens_renormalised(
    probabilities: tuple[float, ...], branches: bool
) -> None:
    """H(K) of the paper, by hand: three tokens alike have ln 3 = 1.099 nats, .6, .3 and .1 have .898."""
    assert top_entropy((0.1, 0.1, 0.1)) == pytest.approx(math.log(3))
    assert top_entropy((0.3, 0.15, 0.05, 0.0)) == pytest.approx(0.8979457)
    tree = StubTree(in_full("branch", entropy=1.0), rest, answers=3, likely=lambda start: probabilities)
    assert {node.parent is not None for node in tree.run()[1:]} == {branches}, "else they are sampled"
    two = StubTree(in_full("branch", entropy=1.0, tokens=2), rest, answers=3, likely=lambda start: probabilities)
    assert not any(node.parent is not None for node in two.run()), "two tokens have at most ln 2 nats"


def test_dts_branches_at_low_entropy_and_high_varentropy_into_the_top_three() -> None:
    """ZichengXu/Decoding-Tree-Sketching, `tree_decoder.py`: H <= 2.5 and V > 1.5, top 3, 48, the first to finish."""
    policy = in_full("branch-first")
    rule, branch = tree_rule(policy), policy.rules[0].do.branch
    assert (rule.high[Signal.ENTROPY], rule.low[Signal.VARENTROPY], rule.region) == (2.5, 1.5, RegionCode.ANY)
    assert rule.at_temperature == 0.6
    assert branch is not None
    assert (branch.width, branch.max_branches, branch.select, branch.first) == (2, 48, "first", 1)
    tree = StubTree(policy, lambda start: [A, END] if C in start.tokens else [A] * 30 + [END], answers=48)
    nodes = tree.run()
    assert [node.forced_tokens for node in nodes[1:3]] == [(B,), (C,)], "with the sampled one, the top 3"
    (chosen,) = (node for node in nodes if node.chosen)
    assert chosen.end_order == min(
        node.end_order for node in nodes if node.ended == "stop" and node.end_order is not None
    )


@pytest.mark.parametrize("seed", range(8))
def test_dts_branches_where_the_authors_formulas_say(seed: int) -> None:
    """`token_entropy_from_logits` and `token_varentropy_from_p` of `kvbatch_decoder.py` at temperature 0.6, run here
    on distributions with a few likely tokens and a long tail."""
    random = torch.Generator().manual_seed(seed)
    places = []
    for spread in (0.5, 2.0, 3.5, 5.0, 7.0, 10.0):
        logits = torch.randn(SIZE, generator=random) * spread
        logp = torch.log_softmax(logits.double() / 0.6, dim=-1)
        entropy = -(logp.exp() * logp).sum()
        varentropy = (logp.exp() * (-logp - entropy) ** 2).sum()
        places.append((logits, bool(entropy <= 2.5) and bool(varentropy > 1.5)))
    written = in_full("branch-first").model_dump(mode="json", exclude_unset=True)
    for logits, branches in places:
        _, record = apply(written, logits, temperature=1.3)
        assert (fired(record) == [0]) == branches


@pytest.mark.parametrize(("m", "says"), [(1, "3"), (2, "3"), (3, "4"), (4, "4")])
def test_dts_stable_is_the_majority_of_the_first_to_finish(m: int, says: str) -> None:
    """`majority_vote_answers` of the first num_traces, by hand: 3, 4, 4, 3 in the order in which they finish; of as
    many votes, what was said first, and the first trace that says it."""
    said = {0: ("3", 1), 1: ("4", 5), 2: ("4", 9), 3: ("3", 13)}

    def play(start: ChildStart) -> list[int]:
        number = len(start.tokens) if B in start.tokens else 0
        answer, length = said[min(number, 3)]
        return [*[A] * length, END_THINK, *tokens(answer), END]

    tree = StubTree(
        in_full("branch-first", m=m, width=1), play, forks=lambda start, position: not start.tokens and position < 3,
        answers=8, longest=60,
    )  # fmt: skip
    nodes = tree.run()
    finished = sorted((node for node in nodes if node.ended == "stop"), key=lambda node: node.end_order or 0)
    assert len(finished) == m
    (chosen,) = (node for node in nodes if node.chosen)
    votes = [TARGET.vocabulary.tokens[node.tokens()[-2]].decode() for node in finished]
    expected = Counter(votes).most_common(1)[0][0]
    assert TARGET.vocabulary.tokens[chosen.tokens()[-2]].decode() == expected
    assert chosen is finished[votes.index(expected)]


def test_the_variants_at_forks_branch_above_the_models_threshold_in_the_reasoning() -> None:
    for name in ("branch-at-forks", "first-at-forks"):
        rule = tree_rule(in_full(name))
        assert (rule.low[Signal.ENTROPY], rule.region) == (TARGET.fork_threshold, RegionCode.REASONING)
    first = in_full("first-at-forks").rules[0].do.branch
    assert first is not None
    assert (first.select, first.max_branches, first.first) == ("first", 8, 1)


def test_branches_only_between_connectors() -> None:
    tree = StubTree(in_full("branch-connectors"), lambda start: [tokens("eck")[0]] * 3 + [END], answers=9)
    family = tree.context.connectors.family
    nodes = tree.run()
    assert len(nodes) > 1
    assert all(family(node.forced_tokens[0]) for node in nodes[1:])


def test_cot_decoding_starts_with_the_ten_likeliest_tokens_and_continues_greedily() -> None:
    policy = in_full("cot-branch")
    rule = tree_rule(policy)
    assert (rule.first_position, rule.last_position) == (0, 0)
    (greedy,) = (one for one in compile_policy(policy, TARGET).program.rules if one.action == Action.LIKELIEST)
    assert (greedy.first_position, greedy.region) == (0, RegionCode.ANY)
    branch = policy.rules[0].do.branch
    assert branch is not None
    assert (branch.max_branches, branch.select) == (10, "margin")
    sure = StubTree(
        policy, rest, forks=lambda start, position: position == 0, answers=10,
        likely=lambda start: (0.9, -0.05, -0.01) if start.tokens == [C] else (0.5, -0.4, -0.1),
    )  # fmt: skip
    (chosen,) = (node for node in sure.run() if node.chosen)
    assert chosen.forced_tokens == (C,), "the temperature of 0 has removed it, and it starts an answer nevertheless"


@pytest.mark.parametrize(("margins", "says"), [((0.3, 0.2, 0.4), "7"), ((0.3, 0.2, 0.6), "4"), ((0.1, 0.1, 0.15), "7")])
def test_cot_decoding_sums_the_margins_of_equal_answers(margins: tuple[float, float, float], says: str) -> None:
    """arXiv:2402.10200, by hand: the first two answers say 7, the third 4. The sum over each answer's paths decides;
    only the answer's own tokens count, so that the sure text around it does not."""
    by_start = dict(zip([(), (B,), (C,)], margins, strict=True))

    def play(start: ChildStart) -> list[int]:
        return [A, A, END_THINK, A, *tokens("4" if start.tokens == [C] else "7"), A, END]

    def lead(start: ChildStart, position: int) -> float:
        written = len(start.tokens) + 4
        return by_start[tuple(start.tokens)] if position == written else 0.9 - by_start[tuple(start.tokens)]

    tree = StubTree(
        in_full("cot-branch", answers=3), play, forks=lambda start, position: not start.tokens and position == 0,
        answers=3, margin=lead,
    )  # fmt: skip
    (chosen,) = (node for node in tree.run() if node.chosen)
    assert tokens(says)[0] in chosen.tokens()
    same = [(), (B,)] if says == "7" else [(C,)]
    assert chosen.forced_tokens == max(same, key=lambda start: by_start[start])


@pytest.mark.parametrize(("probability", "ends"), [(0.96, True), (0.95, False)])
def test_guess_confidence_ends_when_the_tried_answers_mean_probability_is_above_its_bound(
    probability: float, ends: bool
) -> None:
    policy = in_full("guess-confidence")
    rule, probe = tree_rule(policy), policy.rules[0].do.probe
    assert (rule.at_most, rule.region) == (10, RegionCode.REASONING)
    assert {token for word in ("Wait", " Wait", "wait") for token in tokens(word)} <= set(rule.previous.tokens)
    assert probe is not None
    assert (probe.tokens, probe.probability_above) == (20, 0.95)
    tree = StubTree(policy, rest, forks=lambda start, position: not start.tokens and position == 3, top=probability)
    nodes = tree.run()
    assert [node.chosen for node in nodes] == ([False, False, True] if ends else [True, False])


def test_guesses_agree_after_ten_equal_ones() -> None:
    rule = tree_rule(in_full("guess-agreement"))
    assert (rule.every, rule.first_position, rule.region) == (64, 1, RegionCode.REASONING)
    tried = iter([A, B, A, *[B] * 30])
    tree = StubTree(
        in_full("guess-agreement"),
        lambda start: [next(tried), END] if start.tokens else [tokens("eck")[0]] * 20 + [END],
        forks=lambda start, position: not start.tokens and position < 20, answers=40,
    )  # fmt: skip
    nodes = tree.run()
    followed = [node for node in nodes if node.kind == "answer" and node.parent is not None]
    assert [node.position for node in followed] == [12], "the fourth to the thirteenth are equal"


def test_deepconf_stops_what_is_below_the_confidence_of_the_best_tenth() -> None:
    """facebookresearch/deepconf, `deepconf-online.py`: 16 of 256 answers set the 90th percentile over 2048 tokens."""
    authors = in_full("deepconf").rules[0].do.sample
    assert authors is not None
    assert (authors.answers, authors.warm_up, authors.keep_percent, authors.window) == (256, 16, 10.0, 2048)
    assert authors.deciding_share == 0.95
    policy = in_full("deepconf", answers=32, window=2, extract="text")
    random = np.random.default_rng(3)
    sureness: dict[int, float] = {}

    def likely(start: ChildStart) -> tuple[float, ...]:
        first = sureness.setdefault(start.seed, float(random.uniform(0.4, 0.9)))
        return first, (1 - first) / 2, (1 - first) / 4

    tried = iter([A, B] * 40)
    said: dict[int, int] = {}

    def play(start: ChildStart) -> list[int]:
        return [A, A, A, END_THINK, said.setdefault(start.seed, next(tried)), END]

    tree = StubTree(policy, play, forks=lambda start, position: False, answers=32, likely=likely)
    nodes = tree.run()
    confidence = confidence_of(np.array([likely(start) for start in tree.started]))
    threshold = np.percentile(confidence[:16], 90)
    assert len(nodes) == 32
    assert all(node.ended == "stop" for node in nodes[:16])
    for node, one in zip(nodes[16:], confidence[16:], strict=True):
        assert node.ended in (("stop", "outvoted") if one >= threshold else ("unsure", "outvoted"))
    (chosen,) = (node for node in nodes if node.chosen)
    assert confidence[chosen.number] >= threshold


def test_group_confidence_is_of_the_twenty_likeliest() -> None:
    assert BRANCH_ALTERNATIVES == 20
    assert confidence_of(np.array([[0.02] * 20, [0.5] + [0.25] * 19])) == pytest.approx(
        [-math.log(0.02), -(math.log(0.5) + 19 * math.log(0.25)) / 20]
    )


@pytest.mark.parametrize(
    ("name", "reported", "stored"),
    [("branch", 20, 20), ("deepconf", 20, 5), ("deer", 5, 5), ("think-brake", 20, 5), ("think-again", 5, 5)],
)
def test_as_many_alternatives_are_reported_and_stored_as_needed(name: str, reported: int, stored: int) -> None:
    """A branch chooses from them, and confidence is an average over as many; the others only show them."""
    tree = StubTree(in_full(name), rest)
    assert num_alternatives(tree.context) == reported
    start = ChildStart([], 0, FREE, Region.REASONING, Region.REASONING)
    assert open_traces(tree.context, 1, start)[0].max_alternatives == stored
    tree.close()


def test_the_placebo_of_deepconf_stops_as_many_after_as_many_tokens() -> None:
    policy = in_full("deepconf", answers=32, window=2, extract="text", decided_at=1.0)
    random, sureness = np.random.default_rng(4), dict[int, float]()

    def likely(start: ChildStart) -> tuple[float, ...]:
        first = sureness.setdefault(start.seed, float(random.uniform(0.4, 0.9)))
        return first, (1 - first) / 2, (1 - first) / 4

    def play(start: ChildStart) -> list[int]:
        return [A, A, A, A, END_THINK, A if start.seed % 2 else B, END]

    stopped: dict[str, list[int]] = {}
    for name, one in (("policy", policy), ("placebo", placebo_of(policy, "positions"))):
        for seed in range(20):
            sureness.clear()
            tree = StubTree(one, play, forks=lambda start, position: False, answers=32, likely=likely, seed=seed)
            nodes = tree.run()
            stopped.setdefault(name, []).append(sum(node.ended == "unsure" for node in nodes[16:]))
            assert {node.length for node in nodes[16:] if node.ended == "unsure"} <= {2, 3}
    assert np.mean(stopped["placebo"]) == pytest.approx(np.mean(stopped["policy"]), abs=1.5)


def test_thinking_until_4096_tokens() -> None:
    resume = in_full("keep-thinking").rules[0].do.resume
    assert resume is not None
    assert (resume.text, resume.budget_tokens) == ("Wait", 4096)
    tree = StubTree(in_full("keep-thinking", budget_tokens=9), lambda start: [A, A, END])
    nodes = tree.run()
    assert [node.forced_tokens for node in nodes[1:]] == [tuple(tokens("Wait"))] * 2
    control = StubTree(placebo_of(in_full("keep-thinking", budget_tokens=9), "count"), lambda start: [A, A, END])
    written = [node.forced_tokens for node in control.run()[1:]]
    assert len(written) == 2
    assert all(len(one) == len(tokens("Wait")) and one != tuple(tokens("Wait")) for one in written)


def test_thinking_again_once_and_a_final_answer() -> None:
    """MI-Peaks, `TTTS_evaluate.py` as `run_TTTS.sh` calls it: 4096 tokens, " " and the word, 4096 more, a last text
    and 16 tokens, greedily."""
    resume = in_full("think-again").rules[0].do.resume
    assert resume is not None
    assert (resume.text, resume.base_tokens, resume.tokens, resume.times) == (" Wait", 4096, 4096, 1)
    assert resume.final is not None
    assert (resume.final.text, resume.final.tokens) == (" Final Answer within \\boxed{}:", 16)


@pytest.mark.parametrize("ends", [True, False])
def test_a_base_answer_that_is_cut_is_continued_like_one_that_ends(ends: bool) -> None:
    """Three phases: the end token is replaced, and so is nothing where a limit cut the answer."""
    policy = in_full("think-again", base_tokens=3, tokens=2, final="but", final_tokens=1)

    def play(start: ChildStart) -> list[int]:
        longest = start.max_tokens or 0
        return [A] * (longest - ends) + [END] * ends

    tree = StubTree(policy, play)
    nodes = tree.run()
    assert [start.max_tokens for start in tree.started] == [3, 2, 1]
    sampled = [start.trial for start in tree.started]
    assert sampled[:2] == [None, None]
    assert sampled[2] is not None
    assert (sampled[2].max_tokens, sampled[2].temperature) == (1, 0.0)
    wait, final = tuple(tokens(" Wait")), (B,)
    assert [node.forced_tokens for node in nodes] == [(), wait, final]
    length = 3 - ends
    assert [node.position for node in nodes] == [0, length, length + 1 + 2 - ends]
    assert [node.chosen for node in nodes] == [False, False, True]
    streamed = [token for output in tree.outputs_sent for choice in output.outputs for token in choice.token_ids]
    assert streamed == nodes[-1].tokens()


def test_the_placebo_of_thinking_again_writes_another_word_and_the_same_last_text() -> None:
    policy = placebo_of(in_full("think-again", base_tokens=3, tokens=2, final="but", final_tokens=1), "count")
    nodes = StubTree(policy, lambda start: [A, END]).run()
    assert nodes[1].forced_tokens != tuple(tokens(" Wait"))
    assert len(nodes[1].forced_tokens) == 1
    assert nodes[2].forced_tokens == (B,)


@pytest.mark.slow
@pytest.mark.parametrize("exits_at", [20, 50])
@pytest.mark.parametrize("marker", [[END_THINK, A], []])
def test_the_placebo_of_an_early_exit_ends_as_late_on_average(exits_at: int, marker: list[int]) -> None:
    """It exits anywhere in the reasoning, and waits for its end: an early end of the text does not lower the mean."""
    policy = placebo_of(in_full("guess-confidence"), "positions")
    ends = []
    for seed in range(200):
        tree = StubTree(
            policy, lambda start: [tokens("eck")[0]] * 60 + marker + [END], top=0.99, longest=100, seed=seed
        )
        tree.forks = lambda start, position: not start.tokens and position == exits_at
        ends += [node.position for node in tree.run() if node.chosen]
    reach = min(exits_at, 60 - exits_at)
    assert np.mean(ends) == pytest.approx(exits_at, abs=2.5)
    assert exits_at - reach <= min(ends) <= exits_at - reach + 3
    assert exits_at + reach - 3 <= max(ends) <= exits_at + reach + 1


def test_the_placebo_of_branches_at_a_fixed_position_has_as_many_anywhere() -> None:
    """They are sampled once the answer's length is known; at their own positions they would be the policy itself."""
    policy = placebo_of(in_full("cot-branch", answers=3))
    positions = set()
    for seed in range(60):
        tree = StubTree(
            policy, rest, forks=lambda start, position: not start.tokens and position == 0, answers=3, seed=seed
        )
        nodes = tree.run()
        assert len({node.position for node in nodes[1:]}) == 1
        assert len(nodes) == 3
        assert all(node.end_order is not None for node in nodes)
        positions.add(nodes[1].position)
    assert positions >= set(range(6)), "the answer has six tokens and its end"


@pytest.mark.parametrize("top", [0.99, 0.1])
@pytest.mark.parametrize("name", ["guess-confidence", "guess-confidence.placebo", "keep-thinking"])
def test_text_streamed_before_the_end_is_in_the_answer(name: str, top: float) -> None:
    """A stream sends only what no exit can take back; in total it is the chosen answer."""
    policy = in_full(name.removesuffix(".placebo"), **({"budget_tokens": 90} if name == "keep-thinking" else {}))
    policy = placebo_of(policy, "positions") if name.endswith("placebo") else policy
    for exits_at in (3, 15, 30):
        tree = StubTree(policy, lambda start: [tokens("eck")[0], A] * 20 + [END], top=top, longest=100)
        tree.forks = lambda start, position, at=exits_at: not start.tokens and position in (at, at + 4)  # type: ignore[misc]
        nodes = tree.run()
        (chosen,) = (node for node in nodes if node.chosen)
        streamed = [token for output in tree.outputs_sent for choice in output.outputs for token in choice.token_ids]
        assert streamed == chosen.tokens()
        assert tree.texts() == {0: text_of(streamed, TARGET.vocabulary, tree.params)}
        waits = name == "guess-confidence.placebo" and chosen.number == 0  # an exit anywhere is possible until the end
        assert (len(tree.outputs_sent) == 1) if waits else (len(tree.outputs_sent) > 5)
        assert [output.finished for output in tree.outputs_sent] == [False] * (len(tree.outputs_sent) - 1) + [True]


def test_the_plain_cap() -> None:
    (rule,) = compile_policy(in_full("reasoning-cap", tokens=300), TARGET).program.rules
    assert (rule.action, rule.first_position, rule.region, rule.text) == (
        Action.FORCE,
        300,
        RegionCode.REASONING,
        [END_THINK],
    )
