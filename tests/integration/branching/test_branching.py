"""One request grows a tree at its forks: answers that share their beginnings, in every API that can carry them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import httpx
import openai
import pytest

from forkpoint_policies.answers.numbers import spelled
from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import MESSAGES, summary_of
from tests.processes.forkpoint_server import Server

PUZZLE: list[Any] = [{"role": "user", "content": held_out_puzzles("hard", 4)[2].prompt}]
SHALLOW: dict[str, Any] = {  # only the trunk is left, so that the tree does not depend on which answer is ahead
    "rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {"depth": 1, "min_gap": 4}}}]
}


def generate(client: openai.OpenAI, policy: Any, extra: dict[str, Any] | None = None, **options: Any) -> Any:
    request_body = {
        "model": "countdown",
        "messages": PUZZLE,
        "max_tokens": 300,
        "temperature": 1.0,
        "seed": 5,
        **options,
    }
    return client.chat.completions.create(**request_body, extra_body={"policy": policy, "forks": True, **(extra or {})})


def tree(client: openai.OpenAI, response: Any) -> dict[str, Any]:
    return dict(client.get(f"/forks/{response.id}", cast_to=dict))


def text(choice: Any) -> str:
    message = choice.message
    return f"{(message.model_extra or {}).get('reasoning') or ''}{message.content or ''}"


def test_choices_are_the_answers_of_one_tree(client: openai.OpenAI) -> None:
    response = generate(client, SHALLOW, n=4)
    found = tree(client, response)
    assert [choice.index for choice in response.choices] == [0, 1, 2, 3]
    nodes, whole = found["tree"]["nodes"], found["choices"]
    assert [node["parent"] for node in nodes] == [None, 0, 0, 0]
    trunk = whole[0]["token_ids"]
    for node, choice in zip(nodes[1:], whole[1:], strict=True):
        assert node["tokens_shared"] == node["position"]
        assert node["entropy"] > 0.3
        assert node["token"] != node["instead_of"] == found["choices"][0]["tokens"][node["position"]]
        assert choice["positions"] == list(range(node["position"] + 1, node["position"] + 1 + len(choice["token_ids"])))
        assert text(response.choices[node["index"]])[:20] == text(response.choices[0])[:20] or node["position"] < 12
    generated = len(trunk) + sum(len(choice["token_ids"]) + 1 for choice in whole[1:])
    assert response.usage.completion_tokens == generated == found["tree"]["generated"] == summary_of(response)["tokens"]
    assert summary_of(response)["branches"] == 3
    assert summary_of(response)["tokens_shared"] == sum(node["position"] for node in nodes[1:])
    assert summary_of(response)["complete"]


def test_a_branch_is_what_a_fresh_request_would_write_from_there(client: openai.OpenAI, server: Server) -> None:
    """Greedy: a completion of the prompt, the shared tokens and the branch's first token gives the branch's tokens."""
    response = generate(client, SHALLOW, {"top_k": 1}, n=4)
    found = tree(client, response)
    rendered = (
        httpx.post(f"{server.url}/tokenize", json={"model": "countdown", "messages": PUZZLE})
        .raise_for_status()
        .json()["tokens"]
    )
    trunk, texts = found["choices"][0]["token_ids"], found["choices"][0]["tokens"]
    for node, choice in zip(found["tree"]["nodes"][1:], found["choices"][1:], strict=True):
        first = httpx.post(
            f"{server.url}/tokenize",
            json={"model": "countdown", "prompt": node["token"], "add_special_tokens": False},
        )
        path = [*rendered, *trunk[: node["position"]], *first.json()["tokens"]]
        alone = client.completions.create(
            model="countdown", prompt=path, temperature=1.0, max_tokens=300 - node["position"] - 1,
            extra_body={"policy": "observe", "top_k": 1},
        )  # fmt: skip
        fresh = client.get(f"/forks/{alone.id}", cast_to=dict)["choices"][0]["token_ids"]
        assert choice["token_ids"] == fresh, (node, "".join(texts[: node["position"]]))


def test_a_stream_gives_the_same(client: openai.OpenAI) -> None:
    whole = generate(client, SHALLOW, n=3)
    pieces: dict[int, str] = {}
    usage, last = None, None
    for chunk in generate(client, SHALLOW, n=3, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            delta = choice.delta
            pieces[choice.index] = (
                pieces.get(choice.index, "")
                + ((delta.model_extra or {}).get("reasoning") or "")
                + (delta.content or "")
            )
        usage = chunk.usage or usage
        last = (chunk.model_extra or {}).get("forkpoint") or last
    assert pieces == {choice.index: text(choice) for choice in whole.choices}
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert last is not None
    assert last["branches"] == 2


@pytest.mark.parametrize("select", ["majority", "likelihood", "first"])
def test_one_of_the_answers(client: openai.OpenAI, select: str) -> None:
    rule = {"when": {"entropy_above": 0.3}, "do": {"branch": {"select": select, "max_branches": 6, "min_gap": 4}}}
    response = generate(client, {"rules": [rule]}, max_tokens=600)
    found = tree(client, response)["tree"]
    assert len(response.choices) == 1
    chosen = [node for node in found["nodes"] if node["chosen"]]
    assert len(chosen) == 1
    assert len(found["nodes"]) > 1
    assert response.choices[0].finish_reason == chosen[0]["finish_reason"]
    if select == "first":
        assert all(
            node["ended"] == "outvoted"
            for node in found["nodes"]
            if not node["chosen"] and node["ended"] not in ("stop", "length")
        )


@pytest.mark.parametrize("extract", ["math", "last_line"])
def test_each_answer_of_a_tree_says_what_was_extracted_from_it(client: openai.OpenAI, extract: str) -> None:
    sample = {"answers": 6, "select": "majority", "decided_at": None, "extract": extract}
    found = tree(client, generate(client, {"rules": [{"do": {"sample": sample}}]}, max_tokens=600))
    assert found["tree"]["extract"] == extract
    num_read = 0
    for node, choice in zip(found["tree"]["nodes"], found["choices"], strict=True):
        said = "".join(choice["tokens"]).partition("</think>")[2].removesuffix("<|im_end|>").strip()
        if node["ended"] == "stop" and re.fullmatch(r"[0-9+*/() -]+", said):
            num_read += 1
            value = spelled(Fraction(eval(said)).limit_denominator()) if extract == "math" else said
            assert node["answer"] == value
        elif node["ended"] != "stop":
            assert node["answer"] is None
    assert num_read > 0


WRONG: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "too many": ("chat/completions", {"policy": "branch", "n": 17}, "n", "at most 16"),
    "best of samples": (
        "chat/completions",
        {"policy": "branch", "n": 2, "best_of": 4},
        "best_of",
        "let its `select` choose",
    ),
    "choices of one": ("chat/completions", {"policy": "branch-first", "n": 2}, "n", "leave n out"),
    "no room for choices": ("messages", {"policy": "branch", "max_tokens": 9}, "policy", "select"),
    "no room for choices either": ("responses", {"policy": "branch", "input": "x"}, "policy", "select"),
    "depth": (
        "chat/completions",
        {"policy": {"rules": [{"do": {"branch": {"depth": 0}}}]}},
        "policy.rules[0].do.branch.depth",
        "1",
    ),
    "width": ("chat/completions", {"policy": {"use": "branch", "with": {"width": 0}}}, "policy.with.width", "from 1"),
    "extractor": (
        "chat/completions",
        {"policy": {"rules": [{"do": {"branch": {"select": "majority", "extract": "guess"}}}]}},
        "policy.rules[0].do.branch.extract",
        "boxed",
    ),
    "extractor of a sample": (
        "chat/completions",
        {"policy": {"use": "deepconf", "with": {"extract": "json_field"}}},
        "policy.with",
        "json_field:",
    ),
    "two trees": ("chat/completions", {"policy": {"rules": [{"do": {"branch": {}}}] * 2}}, "policy", "only one rule"),
    "grammar": (
        "chat/completions",
        {"policy": "branch", "response_format": {"type": "json_object"}},
        "policy",
        "structured outputs",
    ),
    "penalty": ("chat/completions", {"policy": "branch", "presence_penalty": 1.0}, "policy", "presence_penalty"),
    "beam search": (
        "completions",
        {"policy": "branch", "prompt": "x", "use_beam_search": True},
        "policy",
        "use_beam_search",
    ),
}


@pytest.mark.parametrize(("route", "fields", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input(server: Server, route: str, fields: dict[str, Any], field: str, right: str) -> None:
    body = {"model": "countdown", "messages": MESSAGES, **fields}
    answer = httpx.post(f"{server.api}/{route}", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    if route == "messages":  # Anthropic's errors name no field
        assert error["message"].startswith(f"{field}: ")
    else:
        assert error["param"] == field
    assert right in error["message"]


def reasoning(response: Any) -> str:
    return str((response.choices[0].message.model_extra or {}).get("reasoning") or "")


def test_the_reasoning_ends_at_the_first_answer_that_is_sure_enough(client: openai.OpenAI) -> None:
    """Any answer is sure enough, or none: the first connector ends the reasoning, or nothing does."""
    always = generate(client, {"use": "deer", "with": {"probability": 0.0}}, max_tokens=600)
    found = tree(client, always)
    trunk, probe, *others = found["tree"]["nodes"]
    followed = next(node for node in others if node["kind"] == "answer")
    assert (trunk["ended"], probe["kind"], followed["chosen"]) == ("exit", "probe", True)
    assert probe["position"] == followed["position"]
    words = "".join(found["choices"][0]["tokens"][: probe["position"]])
    assert reasoning(always).strip() == words.strip()
    assert probe["instead_of"].strip() == "Wait"
    assert always.choices[0].finish_reason == "stop"
    assert (
        always.usage.completion_tokens
        == found["tree"]["generated"]
        == sum(node["tokens_generated"] for node in found["tree"]["nodes"])
    )

    never = generate(client, {"use": "deer", "with": {"probability": 1.0}}, max_tokens=600)
    plain = generate(client, "observe", max_tokens=600)
    assert text(never.choices[0]) == text(plain.choices[0])
    assert {node["kind"] for node in tree(client, never)["tree"]["nodes"][1:]} == {"probe"}


@pytest.mark.parametrize(
    ("policy", "probes"),
    [
        ({"use": "eat", "with": {"variance": 1000.0}}, 2),
        ({"use": "guess-agreement", "with": {"every": 8, "equal": 2, "extract": "last_number", "tokens": 16}}, 2),
    ],
)
def test_probes_that_must_agree(client: openai.OpenAI, policy: dict[str, Any], probes: int) -> None:
    rules = {"eat": {"previous": {"endings": ["."]}, "region": "reasoning"}}
    if policy["use"] == "eat":  # the embedded model writes no lines
        policy = {
            "rules": [
                {"when": rules["eat"], "do": {"probe": {"tokens": 1, "variance_below": policy["with"]["variance"]}}}
            ]
        }
    response = generate(client, policy, max_tokens=600)
    nodes = tree(client, response)["tree"]["nodes"]
    tried = [node for node in nodes if node["kind"] == "probe"]
    followed = [node for node in nodes if node["kind"] == "answer" and node["parent"] is not None]
    assert len(tried) >= probes
    assert len(followed) == 1
    assert followed[0]["position"] >= sorted(node["position"] for node in tried)[probes - 1]
    assert followed[0]["chosen"]


def test_the_placebo_of_a_probe_ends_elsewhere_but_as_late_on_average(client: openai.OpenAI) -> None:
    rule = {
        "when": {"every": 24, "after_token": 24, "region": "reasoning"},
        "do": {"probe": {"tokens": 4, "probability_above": 0.0}},
    }
    control = {"rules": [{"do": {"control": {"like": rule, "match": "positions"}}}]}
    ends = []
    for seed in range(12):
        nodes = tree(client, generate(client, control, seed=seed, max_tokens=60))["tree"]["nodes"]
        ends += [node["position"] for node in nodes if node["kind"] == "answer" and node["parent"] is not None]
    assert len(set(ends)) > 6
    assert 0 < min(ends) < 24 < max(ends) <= 48
    assert sum(ends) / len(ends) == pytest.approx(24, abs=12)


@pytest.mark.parametrize(
    "policy",
    [
        {"use": "deer", "with": {"probability": 0.9}},
        {"use": "keep-thinking", "with": {"budget_tokens": 400}},
        {"use": "deer", "with": {"probability": 1.0}},
    ],
)
def test_what_is_certain_streams_before_the_end(client: openai.OpenAI, policy: dict[str, Any]) -> None:
    """Up to the first undecided probe; the stream adds up to the whole response."""
    whole = generate(client, policy, n=1)
    chunks = list(generate(client, policy, n=1, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    said = [f"{(delta.model_extra or {}).get('reasoning') or ''}{delta.content or ''}" for delta in deltas]
    assert "".join(said) == text(whole.choices[0])
    assert sum(map(bool, said)) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.completion_tokens >= len(whole.choices[0].message.content or "") // 8


def test_unsure_samples_are_stopped_and_the_others_vote(client: openai.OpenAI) -> None:
    sampled = {"answers": 8, "warm_up": 4, "window": 16, "keep_percent": 50.0, "decided_at": 1.0, "extract": "text"}
    response = generate(client, {"rules": [{"do": {"sample": sampled}}]}, max_tokens=600)
    found = tree(client, response)["tree"]["nodes"]
    assert [node["parent"] for node in found] == [None] * len(found)
    assert 4 <= len(found) <= 8
    assert all(node["ended"] in ("stop", "length") for node in found[:4])
    assert {node["ended"] for node in found[4:]} <= {"stop", "length", "unsure", "outvoted"}
    assert sum(node["chosen"] for node in found) == 1
    assert len(response.choices) == 1


def test_thinking_again_and_a_last_answer(client: openai.OpenAI) -> None:
    """The first answer is cut, or its end is replaced; then a word, at most 30 tokens, a last text and 6 tokens."""
    for base, cut in ((25, True), (900, False)):
        values = {"base_tokens": base, "tokens": 30, "final_tokens": 6}
        response = generate(client, {"use": "think-again", "with": values}, max_tokens=1200)
        found = tree(client, response)["tree"]["nodes"]
        assert [node["parent"] for node in found] == [None, 0, 1]
        assert found[1]["token"] == " Wait"
        assert (found[0]["tokens_generated"] == base) == cut
        assert found[1]["position"] == found[0]["tokens_generated"] - (not cut)
        assert found[1]["tokens_generated"] <= 31
        assert [node["chosen"] for node in found] == [False, False, True]
        whole = text(response.choices[0])
        before, last, _ = whole.rpartition(" Final Answer within \\boxed{}:")
        assert " Wait" in before
        assert last
        chunks = list(generate(client, {"use": "think-again", "with": values}, max_tokens=1200, stream=True))
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        said = [f"{(delta.model_extra or {}).get('reasoning') or ''}{delta.content or ''}" for delta in deltas]
        assert "".join(said) == whole


def test_thinking_until_a_budget_is_spent(client: openai.OpenAI) -> None:
    budget = 700
    response = generate(
        client, {"use": "keep-thinking", "with": {"text": " Wait", "budget_tokens": budget}}, max_tokens=1000
    )
    plain = generate(client, "observe", max_tokens=1000)
    found = tree(client, response)["tree"]
    assert [node["parent"] for node in found["nodes"]] == [None, *range(len(found["nodes"]) - 1)]
    assert len(found["nodes"]) > 1
    assert all(node["token"] == " Wait" for node in found["nodes"][1:])
    whole = text(response.choices[0])
    assert whole.startswith(text(plain.choices[0]).strip()[:40])
    assert found["nodes"][1]["tokens_shared"] == summary_of(plain)["tokens"] - 1  # in place of the token that ended it
    assert all(node["tokens_shared"] + 1 < budget for node in found["nodes"][1:])


def test_the_surest_of_the_likeliest_beginnings(client: openai.OpenAI) -> None:
    response = generate(client, {"use": "cot-branch", "with": {"answers": 4}}, temperature=0.0, max_tokens=600)
    nodes = tree(client, response)["tree"]["nodes"]
    assert [(node["parent"], node["position"]) for node in nodes] == [(None, None), (0, 0), (0, 0), (0, 0)]
    assert len({node["token"] for node in nodes}) == 4
    assert sum(node["chosen"] for node in nodes) == 1


def test_the_placebo_of_the_likeliest_beginnings_leaves_the_answer_elsewhere(client: openai.OpenAI) -> None:
    """Also where the policy would leave only the likeliest token."""
    places = set()
    for seed in range(3):
        placebo = tree(
            client, generate(client, {"use": "cot-branch.placebo", "with": {"answers": 4}}, seed=seed, max_tokens=100)
        )
        branches = [node for node in placebo["tree"]["nodes"] if node["parent"] is not None]
        assert len(branches) == 3
        (place,) = {node["position"] for node in branches}
        places.add(place)
    assert max(places) > 0
    assert len(places) > 1


def test_log_probabilities_of_what_is_shared_are_the_trunks(client: openai.OpenAI) -> None:
    response = generate(client, SHALLOW, n=3, max_tokens=120, logprobs=True, top_logprobs=2)
    found = tree(client, response)
    contents = [choice.logprobs.content for choice in response.choices]
    for node, choice, own in zip(found["tree"]["nodes"], found["choices"], contents, strict=True):
        assert len(own) == node["tokens_shared"] + node["tokens_generated"]
        assert [one.token for one in own[node["tokens_shared"] + (node["parent"] is not None) :]] == choice["tokens"]
        for mine, theirs in zip(own[: node["tokens_shared"]], contents[0], strict=False):
            assert (mine.token, mine.logprob) == (theirs.token, theirs.logprob)
        if node["parent"] is not None:
            opening = own[node["position"]]
            assert opening.token == node["token"]
            probability = next(one["probability"] for one in node["alternatives"] if one["token"] == node["token"])
            assert math.exp(opening.logprob) == pytest.approx(probability, rel=0.05, abs=1e-3)


def test_stop_strings_end_each_answer(client: openai.OpenAI) -> None:
    response = generate(client, SHALLOW, n=4, stop=["Wait", "Therefore"])
    assert {choice.finish_reason for choice in response.choices} == {"stop"}
    assert not any("Wait" in text(choice) or "Therefore" in text(choice) for choice in response.choices)


def test_all_choices_where_the_model_forks_nowhere(client: openai.OpenAI, server: Server) -> None:
    """The others are sampled from the prompt; only a policy that says so has fewer, and its response says so."""
    body = {
        "model": "countdown", "prompt": "Use 3, 7, 2 to make 17.</think>7 * 2 +", "n": 6, "temperature": 0.3,
        "max_tokens": 3, "seed": 2,
    }  # fmt: skip
    fewer = {"rules": [{"when": {"entropy_above": 40.0}, "do": {"branch": {"fill": "none"}}}]}
    for policy, count in (("branch-at-forks", 6), (fewer, 1)):
        answer = httpx.post(f"{server.api}/completions", json={**body, "policy": policy}).raise_for_status()
        found = answer.json()
        assert [choice["index"] for choice in found["choices"]] == list(range(count))
        assert answer.headers.get("X-Forkpoint-Choices") == (None if count == 6 else "1 of 6")
        assert found["forkpoint"]["warnings"] == ([] if count == 6 else ["returns 1 of 6 choices"])
        stream = httpx.post(f"{server.api}/completions", json={**body, "policy": policy, "stream": True})
        assert "X-Forkpoint-Choices" not in stream.headers
        assert ("1 of 6 choices" in stream.text) == (count == 1)
        assert {f'"index":{number},' in stream.text for number in range(count)} == {True}


def test_a_vote_of_more_answers_than_the_server_allows_says_so(client: openai.OpenAI, server: Server) -> None:
    said = "takes 256 answers, and this server allows 16 (--max-branches)"
    validated = httpx.post(f"{server.api}/policies/validate", json={"policy": "deepconf"}).raise_for_status().json()
    assert any(warning.startswith(said) for warning in validated["warnings"])
    response = generate(client, "deepconf", max_tokens=20)
    warnings = summary_of(response)["warnings"]
    assert warnings[0].startswith(said)
    assert "none is stopped" in warnings[0]
    assert "could not start" in warnings[1]


def test_answers_cut_in_their_reasoning_have_no_vote(client: openai.OpenAI) -> None:
    """A stop string ends some answers within their reasoning. The one that is returned has an answer if any has."""
    voting: dict[str, Any] = {"answers": 8, "warm_up": 8, "keep_percent": 100.0, "extract": "last_number"}
    num_mixed = 0
    for seed in range(4):
        response = generate(
            client, {"rules": [{"do": {"sample": voting}}]}, stop=["Instead"], seed=seed, max_tokens=600
        )
        found = tree(client, response)
        whole = [
            node["ended"] == "stop" and "</think>" in "".join(choice["tokens"])
            for node, choice in zip(found["tree"]["nodes"], found["choices"], strict=True)
        ]
        num_mixed += any(whole) and not all(whole)
        chosen = [node["chosen"] for node in found["tree"]["nodes"]].index(True)
        assert whole[chosen] or not any(whole)
    assert num_mixed


def test_completions(client: openai.OpenAI) -> None:
    prompt = "<|user|>Use 3, 7, 2 to make 17.<|assistant|><think>"
    response: Any = client.completions.create(
        model="countdown", prompt=prompt, n=3, max_tokens=60, seed=3, temperature=1.0, extra_body={"policy": SHALLOW}
    )
    nodes = tree(client, response)["tree"]["nodes"]
    assert len(response.choices) == len(nodes) > 1
    for node, choice in zip(nodes[1:], response.choices[1:], strict=True):
        assert choice.text != response.choices[0].text
        assert response.usage.completion_tokens == sum(one["tokens_generated"] for one in nodes), node


@pytest.mark.parametrize("stream", [False, True])
def test_one_answer_of_several_on_the_other_routes(client: openai.OpenAI, server: Server, stream: bool) -> None:
    response: Any = client.responses.create(
        model="countdown",
        input=PUZZLE[0]["content"],
        max_output_tokens=400,
        stream=stream,
        extra_body={"policy": "first-at-forks"},
    )
    last = list(response)[-1].response if stream else response
    assert last.model_extra["forkpoint"]["branches"] > 0
    body = {"model": "countdown", "messages": PUZZLE, "max_tokens": 400, "policy": "first-at-forks", "stream": stream}
    answer = httpx.post(f"{server.api}/messages", json=body, timeout=60).raise_for_status()
    assert '"branches":' in answer.text
    assert '"forkpoint":' in answer.text


def test_several_prompts_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="one prompt per request"):
        client.completions.create(
            model="countdown", prompt=["Use 3", "Use 4"], max_tokens=5, extra_body={"policy": "branch"}
        )


def test_a_shadow_only_marks_where_it_would_branch(client: openai.OpenAI) -> None:
    shadow = generate(client, {**SHALLOW, "shadow": True}, max_tokens=80)
    assert summary_of(shadow)["branches"] == 0
    assert summary_of(shadow)["interventions"]["branch"]["fired"] > 0
    assert text(shadow.choices[0]) == text(generate(client, "observe", max_tokens=80).choices[0])


def test_validation_shows_the_opening_rule(client: openai.OpenAI) -> None:
    shown: Any = client.post("/policies/validate", body={"policy": "deer.placebo"}, cast_to=dict)
    (rule,) = shown["rules"]
    assert (rule["action"], rule["control"]) == ("probe", "positions")
    assert "".join(rule["text"]) == "\n**Final Answer**\n\\boxed"


@pytest.mark.parametrize(
    ("route", "extra"),
    [
        ("chat/completions", {"structured_outputs": {"regex": "[0-9]{3}"}}),
        ("chat/completions", {"presence_penalty": 0.5}),
        ("chat/completions", {"n": 20}),
        ("messages", {}),
    ],
)
def test_the_servers_default_gives_way_where_it_cannot_be(server: Server, route: str, extra: dict[str, Any]) -> None:
    """A client that requests the policy itself gets an error."""
    body = {"model": "countdown", "messages": PUZZLE, "max_tokens": 20, **extra}
    response = httpx.post(f"{server.api}/{route}", json=body, timeout=60)
    assert response.status_code == 200, response.text
    assert "x-forkpoint-policy" not in response.headers
    assert response.json().get("forkpoint", {}).get("policy") is None
    assert len(response.json().get("choices", [1])) == extra.get("n", 1)
    named = httpx.post(f"{server.api}/{route}", json={**body, "policy": "branch"}, timeout=60)
    assert named.status_code == 400


def test_the_servers_default_branches_where_it_can(server: Server) -> None:
    body = {"model": "countdown", "messages": PUZZLE, "max_tokens": 200, "n": 3, "seed": 2}
    response = httpx.post(f"{server.api}/chat/completions", json=body, timeout=60)
    assert response.headers["x-forkpoint-policy"] == "branch-at-forks"
    assert response.json()["forkpoint"]["branches"] == 2
