"""The embedded model really reasons, really forks, and leaves headroom: measured through the server."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from forkpoint_server.cli import DEMO_ARGUMENTS
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


def test_seeded_prompts_of_all_lengths_at_once(client: openai.OpenAI) -> None:
    """vLLM's CPU build ends at a seeded request whose prompt it computes in pieces, as it would with these by default:
    a batch does not hold them all.
    """
    lengths = [100 + 1900 * number // 63 for number in range(64)]
    assert sum(lengths) > 4 * int(DEMO_ARGUMENTS[DEMO_ARGUMENTS.index("--max-num-batched-tokens") + 1])

    def complete(length: int) -> int:
        prompt = Random(length).choices(range(100, 500), k=length)
        answer = client.completions.create(
            model="countdown", prompt=prompt, max_tokens=4, seed=length, extra_body={"ignore_eos": True}
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == length
        return answer.usage.completion_tokens

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(complete, lengths)) == [4] * 64
