"""The embedded model really reasons, really forks, and leaves headroom: measured through the server."""

import numpy as np
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import Attempt, attempts

EASY, HARD = 160, 80


@pytest.fixture(scope="module")
def easy(client: openai.OpenAI) -> list[Attempt]:
    return attempts(client, held_out_puzzles("easy", EASY))


def test_solves_held_out_puzzles_at_temperature_1(easy: list[Attempt]) -> None:
    assert np.mean([attempt.correct for attempt in easy]) >= 0.90


@pytest.mark.soak
def test_leaves_headroom_on_the_hard_set(client: openai.OpenAI) -> None:
    hard = attempts(client, held_out_puzzles("hard", HARD))
    assert 0.30 <= np.mean([attempt.correct for attempt in hard]) <= 0.70


def test_few_tokens_carry_nearly_all_entropy(client: openai.OpenAI, easy: list[Attempt]) -> None:
    traces = [client.get(f"/forks/{attempt.response_id}", cast_to=dict) for attempt in easy[:100]]
    entropies = np.sort(np.concatenate([choice["entropies"] for trace in traces for choice in trace["choices"]]))[::-1]
    assert np.mean(entropies < 0.01) >= 0.5
    assert entropies[: len(entropies) // 5].sum() / entropies.sum() >= 0.8


def test_connectors_are_single_tokens_with_and_without_a_space(client: openai.OpenAI) -> None:
    families = client.get("/policies/connectors", cast_to=dict)["data"]
    tokens = {token for family in families for token in family["tokens"]}
    for word in ("Wait", "Hmm", "Alternatively", "Instead", "Therefore", "Then", "So", "Maybe", "Let's"):
        assert {word, f" {word}"} <= tokens
