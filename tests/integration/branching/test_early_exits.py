"""Each early exit on the real engine: its trial answers are written as the policy says, and so is the end."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from forkpoint_policies.library import LIBRARY

from .test_branching import generate, reasoning, text, tree

BLANK_LINES = {"when": {"every": 24, "after_token": 12, "region": "reasoning"}, "do": {"force": {"text": ".\n\n"}}}
"""The embedded model writes none."""
BLANK_LINE_AT_THE_END = {
    "when": {"region": "reasoning", "at_most": 1},
    "do": {"force": {"text": ".\n\n", "instead_of": "end_of_reasoning"}},
}
"""Where the end is likely, in a context or another."""


def after(rule: dict[str, Any], name: str, **values: Any) -> dict[str, Any]:
    rules = [one.model_dump(mode="json", exclude_unset=True) for one in LIBRARY[name].use(values).rules]
    return {"rules": [rule, *rules]}


def use(name: str, **values: Any) -> dict[str, Any]:
    return {"use": name, "with": values}


def written(node: dict[str, Any]) -> str:
    return "".join(node["tokens"])


EXITS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "deer": (use("deer", probability=0.0), 1, "\n**Final Answer**\n\\boxed", "\n</think>\n\n"),
    "eat": (after(BLANK_LINES, "eat", fewest=3, variance=1000.0), 3, "\n</think>\n\n", "\n</think>\n\n"),
    "answer-convergence": (
        use("answer-convergence", equal=2, extract="last_number", text="\n"),
        2,
        "\n</think>\n",
        "\n</think>\n\\boxed{",
    ),
    "think-brake": (
        after(BLANK_LINE_AT_THE_END, "think-brake", within=50.0, before="."),
        1,
        ".",
        ".</think>\n\n",
    ),
    "guess-agreement": (use("guess-agreement", every=8, equal=2, extract="last_number", tokens=16), 2, "</think>", ""),
    "guess-confidence": (use("guess-confidence", probability=0.0), 1, "</think>", "</think>"),
}
"""The policy, the fewest trial answers, the text before each of them, and the text where the reasoning ends."""


@pytest.mark.parametrize(("policy", "fewest", "before", "end"), EXITS.values(), ids=EXITS.keys())
def test_the_reasoning_ends_as_the_policy_says(
    client: openai.OpenAI, policy: dict[str, Any], fewest: int, before: str, end: str
) -> None:
    response = generate(client, policy, max_tokens=600)
    found = tree(client, response)
    trunk, *others = found["tree"]["nodes"]
    trials = [node for node in others if node["kind"] == "probe"]
    (exit_,) = (node for node in others if node["kind"] == "answer")
    assert (trunk["ended"], exit_["chosen"]) == ("exit", True)
    assert len(trials) >= fewest
    for trial in trials:
        assert written(trial).strip(" ") == before.strip(" "), "but for the space before the word in its place"
    assert written(exit_).lstrip(" ").startswith(end)
    assert exit_["position"] == sorted(trial["position"] for trial in trials)[fewest - 1] or fewest > 1
    whole = "".join(found["choices"][0]["tokens"])
    assert whole.startswith("".join(found["choices"][0]["tokens"][: exit_["position"]]))
    assert reasoning(response).strip()
    assert response.usage.completion_tokens == found["tree"]["generated"]


@pytest.mark.parametrize(("bits", "ends"), [(4.33, True), (0.0, False)])
def test_think_just_enough_ends_after_the_first_step_that_is_sure(
    client: openai.OpenAI, bits: float, ends: bool
) -> None:
    """At the first blank line, if any step is; no trial answers are generated."""
    found = tree(client, generate(client, after(BLANK_LINES, "think-just-enough", bits=bits), max_tokens=300))
    kinds = [node["kind"] for node in found["tree"]["nodes"]]
    assert kinds == (["answer", "answer"] if ends else ["answer"])
    if ends:
        trunk, exit_ = found["tree"]["nodes"]
        assert (trunk["ended"], exit_["chosen"], written(exit_)[: len("</think>")]) == ("exit", True, "</think>")
        assert "".join(found["choices"][0]["tokens"][: exit_["position"]]).count("\n\n") == 1


def test_dynasor_writes_the_answer_that_was_guessed(client: openai.OpenAI) -> None:
    """One interval after the last of the guesses that agree; the text ends there, and no request writes it."""
    policy = use("dynasor", every=16, equal=2, extract="text", temperature=0.0, tokens=1, text="so the answer is ")
    response = generate(client, policy, max_tokens=600)
    found = tree(client, response)["tree"]["nodes"]
    trials = [node for node in found if node["kind"] == "probe"]
    assert [trial["position"] % 16 for trial in trials] == [0] * len(trials)
    (exit_,) = (node for node in found if node["kind"] == "answer" and node["parent"] is not None)
    assert (exit_["chosen"], exit_["ended"], exit_["position"] % 16) == (True, "stop", 0)
    assert exit_["position"] - 16 in {trial["position"] for trial in trials}
    content = response.choices[0].message.content or ""
    assert content.startswith(
        "\n Oh, I have got the answer to the whole problem\n**Final Answer:**\n\\[\n \\boxed{so the"
    )
    assert content.endswith("}\n\\]")
    assert response.choices[0].finish_reason == "stop"


def test_dynasors_guesses_are_the_same_for_the_same_seed(client: openai.OpenAI) -> None:
    """They are sampled."""

    def guesses() -> list[tuple[int, str]]:
        found = tree(client, generate(client, use("dynasor", every=32), max_tokens=250, seed=7))
        return [
            (node["position"], "".join(choice["tokens"]))
            for node, choice in zip(found["tree"]["nodes"], found["choices"], strict=True)
            if node["kind"] == "probe"
        ]

    first = guesses()
    assert len(first) >= 3
    assert guesses() == first


def test_no_thinking(client: openai.OpenAI) -> None:
    response = generate(client, "no-thinking", max_tokens=100)
    assert reasoning(response).strip() == "Okay, I think I have finished thinking."
    assert (response.choices[0].message.content or "").strip()
    placebo = generate(client, "no-thinking.placebo", max_tokens=100)
    assert reasoning(placebo)
    assert reasoning(placebo) != reasoning(response)
    assert (placebo.choices[0].message.content or "").strip()
    assert text(placebo.choices[0]) != text(response.choices[0])


@pytest.mark.parametrize(
    ("rule", "field", "right"),
    [
        ({"do": {"probe": {"tokens": 5}}}, "policy.rules[0].do.probe", "it says when the reasoning ends"),
        (
            {"when": {"at_most": 4}, "do": {"probe": {"agreement": 5}}},
            "policy.rules[0]",
            "fewer than the 5 trial answers",
        ),
        (
            {"when": {"before_token": 100, "every": 25}, "do": {"probe": {"agreement": 5}}},
            "policy.rules[0]",
            "leaves 4 positions",
        ),
        (
            {"when": {"confidence_below": 1.0, "before_token": 100}, "do": {"observe": {}}},
            "policy.rules[0].when.confidence_window",
            "never full",
        ),
        (
            {"do": {"probe": {"end_of_reasoning_within": 1.0}}},
            "policy.rules[0].do.probe",
            "needs place 'reasoning'",
        ),
    ],
)
def test_a_probe_that_cannot_end_anything(client: openai.OpenAI, rule: dict[str, Any], field: str, right: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        generate(client, {"rules": [rule]}, max_tokens=5)
    body: Any = refused.value.body
    assert body["param"] == field
    assert right in body["message"]


def test_cgrs_never_samples_its_words_where_a_probe_was_sure(client: openai.OpenAI) -> None:
    """A blank line each 24 tokens; any guess is sure enough, or none, which leaves vLLM's own tokens."""
    lines = {"rules": [BLANK_LINES]}
    always = after(BLANK_LINES, "cgrs", certainty=0.0)
    always["rules"][1]["do"]["probe"]["in_proportion"] = False
    sure = generate(client, always, max_tokens=300)
    found = tree(client, sure)["tree"]["nodes"]
    assert {node["kind"] for node in found} == {"answer", "probe"}
    assert [node["parent"] for node in found if node["kind"] == "answer"] == [None, 0], "it takes over once, and stays"
    first = reasoning(sure).index("\n\n")
    assert not re.search(r"\b(Wait|But|Alternatively|Hmm)\b", reasoning(sure)[first:])
    never = generate(client, after(BLANK_LINES, "cgrs", certainty=1.0), max_tokens=300)
    plain = generate(client, lines, max_tokens=300)
    assert text(never.choices[0]) == text(plain.choices[0])
    assert re.search(r"\b(Wait|But|Alternatively|Hmm)\b", reasoning(plain)[first:]), "it would have"
