"""Structured outputs under a policy that bans words: a banned word is never begun, where a grammar could only
finish it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.integration.puzzles import MESSAGES, summary_of

BAN = {"rules": [{"do": {"suppress": {"words": ["wait"]}}}]}
GRAMMARS: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "choice": ({"choice": ["Wait", "Then"]}, {"Wait", "Then"}, {"Then"}),
    "a choice of phrases": ({"choice": ["Wait here", "Then", "I wait"]}, {"Wait here", "Then", "I wait"}, {"Then"}),
    "enum": ({"json": {"enum": ["Wait", "Then"]}}, {'"Wait"', '"Then"'}, {'"Then"'}),
    "pattern": ({"json": {"type": "string", "pattern": "^(Wait|Then)$"}}, {'"Wait"', '"Then"'}, {'"Then"'}),
    "regex": ({"regex": "(W|w)ait 1|Then 1"}, {"Wait 1", "wait 1", "Then 1"}, {"Then 1"}),
    "grammar": ({"grammar": 'root ::= ("Wait" | "Then") " 1"'}, {"Wait 1", "Then 1"}, {"Then 1"}),
}


def written(client: openai.OpenAI, grammar: dict[str, Any], policy: Any) -> tuple[set[str], int]:
    """What is written after the reasoning with each of some seeds, and in how many places a mask was left out."""
    texts, left_alone = set(), 0
    for seed in range(6):
        body = {"structured_outputs": grammar, **({"policy": policy} if policy else {})}
        answer = client.completions.create(
            model="countdown", prompt="x</think>", max_tokens=12, seed=seed, temperature=1, extra_body=body
        )
        texts.add(answer.choices[0].text)
        left_alone += summary_of(answer)["left_alone"] if policy else 0
    return texts, left_alone


@pytest.mark.parametrize(("grammar", "allowed", "left"), GRAMMARS.values(), ids=GRAMMARS)
def test_a_banned_word_is_not_begun(
    client: openai.OpenAI, grammar: dict[str, Any], allowed: set[str], left: set[str]
) -> None:
    assert written(client, grammar, BAN) == (left, 0)
    assert written(client, grammar, None)[0] <= allowed


def test_a_ban_of_another_region_leaves_the_grammar_as_it_is(client: openai.OpenAI) -> None:
    """vLLM applies it to the answer only."""
    reasoning = {"rules": [{"when": {"region": "reasoning"}, "do": {"suppress": {"words": ["wait"]}}}]}
    grammar = {"choice": ["Wait"]}
    assert written(client, grammar, reasoning) == ({"Wait"}, 0)


@pytest.mark.parametrize("structured", [{"choice": ["Wait", "wait!"]}, {"json": {"const": "Wait"}}])
def test_a_grammar_of_banned_words_only_is_refused(client: openai.OpenAI, structured: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="has a word that the policy bans") as caught:
        client.chat.completions.create(
            model="countdown", messages=MESSAGES, extra_body={"policy": BAN, "structured_outputs": structured}
        )
    assert caught.value.param == "structured_outputs"


@pytest.mark.parametrize("structured", [{"choice": []}, {"regex": "("}, {"grammar": "root ::= x"}])
def test_what_vllm_rejects_it_rejects_in_the_same_words(client: openai.OpenAI, structured: dict[str, Any]) -> None:
    def message(**body: Any) -> str:
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(
                model="countdown", prompt="x", extra_body={"structured_outputs": structured, **body}
            )
        return str(caught.value.message)

    assert message(policy=BAN) == message()
