"""Policies that sample answers and vote, on the real engine: who voted, when it stopped, and what was returned."""

from __future__ import annotations

from collections import Counter
from typing import Any

import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import summary_of

PUZZLE: list[Any] = [{"role": "user", "content": held_out_puzzles("easy", 8)[3].prompt}]
SEEDS = range(3)


def sampled(
    client: openai.OpenAI, name: str, seed: int, max_tokens: int = 700, **values: Any
) -> tuple[list[dict[str, Any]], list[str | None], Any]:
    """The nodes of the tree, what each says after its reasoning if it has ended there, and the response."""
    response = client.chat.completions.create(
        model="countdown", messages=PUZZLE, max_tokens=max_tokens, temperature=1.0, seed=seed,
        extra_body={"policy": {"use": name, "with": {"extract": "text", **values}}, "forks": True},
    )  # fmt: skip
    trace: Any = client.get(f"/forks/{response.id}", cast_to=dict)
    nodes, said = trace["tree"]["nodes"], []
    for node, choice in zip(nodes, trace["choices"], strict=True):
        _, end, after = "".join(choice["tokens"]).partition("</think>")
        said.append(" ".join(after.replace("<|im_end|>", "").split()) if end and node["ended"] == "stop" else None)
    assert sum(node["chosen"] for node in nodes) == len(response.choices) == 1
    assert summary_of(response)["policy"] == name
    return nodes, said, response


def chosen(nodes: list[dict[str, Any]]) -> int:
    return [node["chosen"] for node in nodes].index(True)


@pytest.mark.parametrize("seed", SEEDS)
def test_self_consistency_returns_the_commonest_answer(client: openai.OpenAI, seed: int) -> None:
    nodes, said, response = sampled(client, "self-consistency", seed, answers=7)
    votes: Counter[str | None] = Counter(one for one in said if one is not None)
    assert len(nodes) == 7
    assert votes[said[chosen(nodes)]] == max(votes.values())
    assert " ".join(response.choices[0].message.content.split()) == said[chosen(nodes)]


def test_adaptive_consistency_stops_at_the_posterior(client: openai.OpenAI) -> None:
    """One answer at a time, in the order of the seeds; four equal ones are enough, three are not."""
    nodes, said, _ = sampled(client, "adaptive-consistency", 1, answers=12)
    whole = [one for one in said if one is not None]
    assert {node["ended"] for node in nodes} <= {"stop", "length"}
    if len(nodes) < 12:
        (_, first), *others = Counter(whole).most_common(2)
        assert first >= 4 + sum(count for _, count in others)
    _, same, _ = sampled(client, "adaptive-consistency", 1, answers=12, at_a_time=4)
    assert same[: len(nodes)] == said


@pytest.mark.parametrize("seed", SEEDS)
def test_early_stop_consistency_ends_with_a_window_that_agrees(client: openai.OpenAI, seed: int) -> None:
    nodes, said, _ = sampled(client, "early-stop-consistency", seed, answers=9, window=3)
    windows = [said[at : at + 3] for at in range(0, len(nodes), 3)]
    agreed = [len(set(window)) == 1 and window[0] is not None for window in windows]
    assert agreed[:-1] == [False] * (len(agreed) - 1)
    assert agreed[-1] or len(nodes) == 9
    if agreed[-1]:
        assert said[chosen(nodes)] == windows[-1][0]


@pytest.mark.parametrize(("name", "m"), [("short-m", 3), ("short-m", 1), ("first-finish", 1)])
def test_only_the_first_to_end_have_a_vote(client: openai.OpenAI, name: str, m: int) -> None:
    nodes, said, _ = sampled(client, name, 4, answers=6, m=m, max_tokens=1500)
    whole = [number for number, one in enumerate(said) if one is not None]
    assert len(nodes) == 6
    assert len(whole) == m
    assert [node["ended"] for node in nodes].count("outvoted") == 6 - m
    lengths = [node["tokens_generated"] for node in nodes]
    votes: Counter[str | None] = Counter(said[number] for number in whole)
    assert votes[said[chosen(nodes)]] == max(votes.values())
    if max(votes.values()) == 1:
        assert lengths[chosen(nodes)] == min(lengths[number] for number in whole)


def test_self_certainty_weighs_the_surest_answers(client: openai.OpenAI) -> None:
    """At power 0 it is the majority, at a high one the surest answer alone; the same request returns the same."""
    nodes, said, _ = sampled(client, "self-certainty", 2, answers=6, power=0.0)
    votes: Counter[str | None] = Counter(one for one in said if one is not None)
    assert votes[said[chosen(nodes)]] == max(votes.values())
    surest = [chosen(sampled(client, "self-certainty", 2, answers=6, power=100.0)[0]) for _ in range(2)]
    assert surest[0] == surest[1]
    assert said[surest[0]] is not None


def test_a_placebo_of_each(client: openai.OpenAI) -> None:
    for name in ("self-consistency", "adaptive-consistency", "early-stop-consistency", "short-m", "self-certainty"):
        nodes, _, _ = sampled(client, f"{name}.placebo", 1, answers=5, max_tokens=200)
        assert 1 <= len(nodes) <= 5


def test_more_first_answers_than_answers_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="countdown", messages=PUZZLE, max_tokens=5,
            extra_body={"policy": {"rules": [{"do": {"sample": {"select": "majority", "answers": 2, "first": 3}}}]}},
        )  # fmt: skip
    assert caught.value.param == "policy.rules[0].do.sample.first"
    with pytest.raises(openai.BadRequestError, match="at most 2"):
        client.chat.completions.create(
            model="countdown", messages=PUZZLE, max_tokens=5,
            extra_body={"policy": {"use": "short-m", "with": {"answers": 2, "m": 3}}},
        )  # fmt: skip
