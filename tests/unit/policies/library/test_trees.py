"""Policies that run several engine requests follow their publications, with the published constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, CompiledRule, RegionCode, Signal
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy
from forkpoint_server.branching.choice_output import text_of
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.requests.progress import BRANCH_ALTERNATIVES, num_alternatives, open_traces
from forkpoint_server.traces.trace import confidence_of
from tests.unit.policies.vocabularies import END, END_THINK, TARGET, tokens
from tests.unit.server.branching.stub_engine import A, B, C, StubTree, rest


def tree_rule(policy: Policy) -> CompiledRule:
    program = compile_policy(policy, TARGET).program
    assert program.tree_rule_index is not None
    return program.rules[program.tree_rule_index]


def in_full(name: str, **values: Any) -> Policy:
    return LIBRARY[name].use(values)


def test_eager_branches_into_the_top_two_above_the_threshold_until_n_leaves() -> None:
    rule = tree_rule(in_full("branch"))
    assert rule.low[Signal.ENTROPY] == TARGET.fork_threshold
    assert tree_rule(in_full("branch", entropy=2.4)).low[Signal.ENTROPY] == 2.4
    tree = StubTree(in_full("branch"), rest, answers=5)
    nodes = tree.run()
    assert len(nodes) == 5
    assert nodes[1].forced_tokens == (B,), "A was sampled, B is the likeliest other one"


def test_dts_returns_the_first_leaf() -> None:
    tree = StubTree(in_full("branch-first"), lambda start: [A, END] if B in start.tokens else [A] * 30, answers=8)
    nodes = tree.run()
    (chosen,) = (node for node in nodes if node.chosen)
    assert chosen.end_order == min(
        node.end_order for node in nodes if node.ended == "stop" and node.end_order is not None
    )


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
    assert greedy.first_position == 1
    branch = policy.rules[0].do.branch
    assert branch is not None
    assert (branch.max_branches, branch.select) == (10, "margin")
    sure = StubTree(
        policy, rest, forks=lambda start, position: position == 0, answers=10,
        likely=lambda start: (0.9, 0.05, 0.01) if start.tokens == [C] else (0.5, 0.4, 0.1),
    )  # fmt: skip
    (chosen,) = (node for node in sure.run() if node.chosen)
    assert chosen.forced_tokens == (C,)


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
    policy = in_full("deepconf", window=2, extract="text")
    sample = policy.rules[0].do.sample
    assert sample is not None
    assert (sample.warm_up, sample.keep_percent, sample.decided_at) == (16, 10.0, 0.95)
    assert LIBRARY["deepconf"].parameters["window"].default == 2048
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
    policy = in_full("deepconf", window=2, extract="text", decided_at=1.0)
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


def test_thinking_again_until_4096_tokens() -> None:
    resume = in_full("think-again").rules[0].do.resume
    assert resume is not None
    assert (resume.text, resume.budget_tokens) == ("Wait", 4096)
    tree = StubTree(in_full("think-again", budget_tokens=9), lambda start: [A, A, END])
    nodes = tree.run()
    assert [node.forced_tokens for node in nodes[1:]] == [tuple(tokens("Wait"))] * 2
    control = StubTree(placebo_of(in_full("think-again", budget_tokens=9), "count"), lambda start: [A, A, END])
    written = [node.forced_tokens for node in control.run()[1:]]
    assert len(written) == 2
    assert all(len(one) == len(tokens("Wait")) and one != tuple(tokens("Wait")) for one in written)


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
@pytest.mark.parametrize("name", ["guess-confidence", "guess-confidence.placebo", "think-again"])
def test_text_streamed_before_the_end_is_in_the_answer(name: str, top: float) -> None:
    """A stream sends only what no exit can take back; in total it is the chosen answer."""
    policy = in_full(name.removesuffix(".placebo"), **({"budget_tokens": 90} if name == "think-again" else {}))
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
