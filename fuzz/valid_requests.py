"""Valid requests by number: random policies with random sampling parameters, on every route that generates.

A server answers each, or says in a 400 which field does not go with the policy; and it serves on. The same number is
the same request.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import ACTIONS, InputError, parse_policy
from forkpoint_policies.spec.connectors import FAMILIES

PROMPT = "Use 3, 7, 2, 11 to make 17."
EXTRACTORS = ("text", "last_number", "last_line", "boxed", "math", "json_field:x")
WORDS = ("wait", "So", "the", "3", "hold on", "therefore", "let's try", "x")
MAX_TOKENS = 24
"""Of most answers: what breaks an engine does so when a request starts or ends."""


@dataclass(frozen=True)
class ValidRequest:
    """A body, and the route that takes it."""

    path: str
    body: dict[str, Any]


def valid_request(number: int) -> ValidRequest:
    """The request of this number."""
    chance = random.Random(number)
    policy = _policy(chance)
    route = chance.choice((_chat, _chat, _completions, _completions, _responses, _messages))
    path, body = route(chance)
    if policy is not None:
        body["policy"] = policy
    if chance.random() < 0.2:
        body["forks"] = True
    if chance.random() < 0.25:
        body["stream"] = True
    return ValidRequest(path, {"model": "countdown", **body})


# routes


def _chat(chance: random.Random) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], **_sampling(chance)}
    _maybe(chance, body, 0.2, logprobs=True, top_logprobs=chance.randint(0, 5))
    _maybe(chance, body, 0.1, chat_template_kwargs={"enable_thinking": chance.random() < 0.5})
    if chance.random() < 0.1:
        body["logprob_token_ids"], body["logprobs"] = [5, 6, 7], True
        body.pop("top_logprobs", None)
    return "/v1/chat/completions", body


def _completions(chance: random.Random) -> tuple[str, dict[str, Any]]:
    prompts: tuple[Any, ...] = (PROMPT, f"{PROMPT}</think>7 * 2 +", [5, 6, 7], [PROMPT, "Use 3"], [[5, 6], [7]])
    body: dict[str, Any] = {"prompt": chance.choice(prompts), **_sampling(chance)}
    _maybe(chance, body, 0.2, logprobs=chance.randint(0, 5))
    _maybe(chance, body, 0.1, echo=True)
    return "/v1/completions", body


def _responses(chance: random.Random) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"input": PROMPT, "max_output_tokens": chance.randint(1, MAX_TOKENS)}
    _maybe(chance, body, 0.3, temperature=_temperature(chance))
    _maybe(chance, body, 0.2, top_p=chance.uniform(0.05, 1.0))
    return "/v1/responses", body


def _messages(chance: random.Random) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": chance.randint(1, MAX_TOKENS),
    }
    _maybe(chance, body, 0.3, temperature=min(1.0, _temperature(chance)))
    _maybe(chance, body, 0.3, stop_sequences=["Wait", "3"])
    _maybe(chance, body, 0.2, top_k=chance.randint(1, 20))
    return "/v1/messages", body


# sampling parameters


def _sampling(chance: random.Random) -> dict[str, Any]:
    longest = chance.choice((1, 2, 5, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS))
    body: dict[str, Any] = {"max_tokens": longest, "temperature": _temperature(chance)}
    _maybe(chance, body, 0.4, min_tokens=chance.choice((0, 1, longest // 2, longest)))
    _maybe(chance, body, 0.5, seed=chance.choice((-1, 0, 5, 2**63 - 1, chance.randrange(10**6))))
    _maybe(chance, body, 0.4, n=chance.choice((1, 2, 3, 6)))
    _maybe(chance, body, 0.3, stop=chance.choice(("Wait", ["3", "7"], ["zzz"], [" "], ["</think>"])))
    _maybe(chance, body, 0.15, include_stop_str_in_output=True)
    _maybe(chance, body, 0.15, stop_token_ids=chance.sample(range(500), 3))
    _maybe(chance, body, 0.25, ignore_eos=True)
    _maybe(chance, body, 0.1, stop_in=chance.choice(("anywhere", "answer")))
    _maybe(chance, body, 0.1, policy_logprobs=True)
    _maybe(chance, body, 0.2, top_p=chance.choice((0.01, 0.5, 1.0)))
    _maybe(chance, body, 0.2, top_k=chance.choice((-1, 0, 1, 5)))
    _maybe(chance, body, 0.2, min_p=chance.choice((0.0, 0.1, 1.0)))
    _maybe(chance, body, 0.1, presence_penalty=chance.uniform(-2, 2))
    _maybe(chance, body, 0.1, frequency_penalty=chance.uniform(-2, 2))
    _maybe(chance, body, 0.1, repetition_penalty=chance.choice((0.5, 1.0, 1.3)))
    _maybe(chance, body, 0.1, logit_bias={"5": -100, "7": 3.5})
    _maybe(chance, body, 0.1, allowed_token_ids=list(range(chance.randint(1, 500))))
    _maybe(chance, body, 0.1, bad_words=["Wait"])
    _maybe(chance, body, 0.1, prompt_logprobs=chance.randint(0, 3))
    _maybe(chance, body, 0.1, thinking_token_budget=chance.choice((0, 1, 5, 1000)))
    _maybe(chance, body, 0.15, structured_outputs=_structured_outputs(chance))
    _maybe(chance, body, 0.1, return_token_ids=True)
    _maybe(chance, body, 0.1, skip_special_tokens=False)
    return body


def _structured_outputs(chance: random.Random) -> dict[str, Any]:
    possible: tuple[dict[str, Any], ...] = (
        {"choice": ["yes", "no"]},
        {"regex": "[0-9]{1,4}"},
        {"json": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    )
    return chance.choice(possible)


def _temperature(chance: random.Random) -> float:
    return chance.choice((0.0, 0.3, 1.0, 1.0, 2.0))


# policies


def _policy(chance: random.Random) -> Any:
    """A policy's object or name; None for a request without one."""
    kind = chance.random()
    if kind < 0.05:
        return None
    if kind < 0.25:
        return chance.choice(sorted(LIBRARY)) + chance.choice(("", "", ".placebo"))
    while True:  # most are valid
        policy = {"rules": [_rule(chance, chance.random() < 0.2) for _ in range(chance.randint(0, 2))]}
        if chance.random() < 0.7:
            policy["rules"].append(_rule(chance, chance.random() < 0.15, tree=True))
        if chance.random() < 0.05:
            policy["shadow"] = True  # type: ignore[assignment]
        try:
            parse_policy(policy)
        except InputError:
            continue
        return policy


def _rule(chance: random.Random, is_placebo: bool, tree: bool = False) -> dict[str, Any]:
    do = _tree_action(chance) if tree else _action(chance)
    rule: dict[str, Any] = {"do": do}
    if not {"sample", "resume"} & set(do) and chance.random() < 0.8:
        rule["when"] = _conditions(chance)
    if is_placebo:
        match = chance.choice(("probability", "count", "frequency", "positions", "dose"))
        strength = {"strength": chance.uniform(0.5, 12.0)} if match == "dose" else {}
        rule = {"do": {"control": {"like": rule, "match": match, **strength}}}
    return rule


def _tokens(chance: random.Random) -> dict[str, Any]:
    possible: tuple[dict[str, Any], ...] = (
        {"connectors": chance.sample(sorted(FAMILIES), 2)},
        {"words": chance.sample(WORDS, 3)},
        {"words": chance.sample(WORDS, 3), "match": chance.choice(("cased", "token", "bare_token"))},
        {"token_ids": chance.sample(range(500), 3)},
    )
    return chance.choice(possible)


def _action(chance: random.Random) -> dict[str, Any]:
    truncation = chance.choice(
        ({"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}, {"top_h": 0.4}, {"top_n_sigma": 1.0}, {"p_less": True})
    )
    instead: dict[str, Any] = {"instead_of": _tokens(chance)} if chance.random() < 0.5 else {}
    force = {"text": chance.choice(WORDS), **(instead or {"instead_of": "end_of_reasoning"})}
    possible: tuple[dict[str, Any], ...] = (
        {"suppress": _tokens(chance)},
        {"suppress": {**_tokens(chance), "bias": -2.5}},
        {"amplify": {**_tokens(chance), "bias": 4.0}},
        {"temperature": chance.choice((0, 0.5, 3.0))},
        {"truncate": truncation},
        {"force": force},
        {"force": {"text": chance.choice(WORDS)}},
        {"end_reasoning": instead},
        {"stop": instead},
        {"observe": {}},
        *({name: dict(example)} for name, action in ACTIONS.items() for example in action.examples),
    )
    return chance.choice(possible)


def _tree_action(chance: random.Random) -> dict[str, Any]:
    return chance.choice((_branch, _branch, _probe, _sample, _resume))(chance)


def _branch(chance: random.Random) -> dict[str, Any]:
    branch: dict[str, Any] = {"width": chance.randint(1, 3), "min_gap": chance.choice((1, 3, 8))}
    _maybe(chance, branch, 0.3, max_branches=chance.randint(1, 8))
    _maybe(chance, branch, 0.3, depth=chance.randint(1, 3))
    _maybe(chance, branch, 0.3, budget_tokens=chance.choice((1, 10, 60)))
    _maybe(chance, branch, 0.3, alternatives=chance.choice(("sampled", {"connectors": sorted(FAMILIES)})))
    _maybe(chance, branch, 0.2, fill=chance.choice(("none", "sample")))
    _maybe(chance, branch, 0.2, top_entropy_above=chance.choice((0.0, 1.0)), top_entropy_of=chance.randint(2, 20))
    _maybe(chance, branch, 0.5, select=chance.choice(("majority", "likelihood", "confidence", "margin", "first")))
    if branch.get("select") in ("majority", "confidence"):
        branch |= {"extract": chance.choice(EXTRACTORS), "decided_at": chance.choice((0.5, 1.0))}
    if branch.get("select") == "first":
        branch["first"] = chance.randint(1, branch.get("max_branches", 3))
    return {"branch": branch}


def _probe(chance: random.Random) -> dict[str, Any]:
    criterion = chance.choice(
        (
            {"probability_above": chance.random()},
            {"variance_below": chance.uniform(0, 2), "smoothing": 0.5},
            {"agreement": 2, "extract": chance.choice(EXTRACTORS)},
        )
    )
    probe: dict[str, Any] = {"tokens": chance.choice((2, 5, 40)), "fewest": chance.randint(1, 3), **criterion}
    _maybe(chance, probe, 0.3, text="The answer is")
    _maybe(chance, probe, 0.3, place="reasoning")
    _maybe(chance, probe, 0.3, stop=["}", "\n"], temperature=chance.choice((0.0, 0.6)), presence_penalty=1.0)
    _maybe(chance, probe, 0.3, end_reasoning={"before": "\n", "after": "\n\n", "stop": chance.random() < 0.5})
    _maybe(chance, probe, 0.2, exit_after_tokens=chance.choice((1, 16)))
    _maybe(chance, probe, 0.2, drop=chance.choice(("space", "nothing")))
    if "probability_above" in probe:
        _maybe(chance, probe, 0.4, span={"skip": 1, "until": chance.choice(("end", "closing_brace"))})
    return {"probe": probe}


def _sample(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.5:
        return {"sample": _vote(chance)}
    sample: dict[str, Any] = {"answers": chance.randint(1, 8), "warm_up": chance.randint(1, 4)}
    _maybe(chance, sample, 0.5, window=chance.choice((1, 4, 2048)), keep_percent=chance.choice((10.0, 50.0, 100.0)))
    _maybe(chance, sample, 0.5, decided_at=chance.choice((0.5, None)), extract=chance.choice(EXTRACTORS))
    return {"sample": sample}


def _vote(chance: random.Random) -> dict[str, Any]:
    """Of `sample`, without a warm-up."""
    answers = chance.randint(1, 8)
    rule = chance.choice(
        (
            {},
            {"decided_at": 0.5},
            {"posterior_at": 0.9, "posterior": chance.choice(("beta", "dirichlet")), "at_a_time": chance.randint(1, 3)},
            {"unanimous": chance.randint(1, answers)},
            {"first": chance.randint(1, answers), "first_by": chance.choice(("reasoning", "text"))},
            {"select": "self-certainty", "power": chance.choice((0.0, 0.5, 2.0))},
        )
    )
    return {"select": "majority", "answers": answers, "extract": chance.choice(EXTRACTORS), **rule}


def _resume(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.5:
        resume: dict[str, Any] = {"text": chance.choice(WORDS), "tokens": chance.choice((1, 20))}
        _maybe(chance, resume, 0.5, base_tokens=chance.choice((1, 30)), times=chance.randint(1, 3))
        _maybe(chance, resume, 0.5, final={"text": chance.choice(WORDS), "tokens": chance.choice((1, 9))})
        return {"resume": resume}
    return {"resume": {"text": chance.choice(WORDS), "budget_tokens": chance.choice((1, 20, 60))}}


def _conditions(chance: random.Random) -> dict[str, Any]:
    when: dict[str, Any] = {}
    _maybe(chance, when, 0.4, entropy_above=chance.choice((0.0, 0.3, "fork", 2.0)))
    _maybe(chance, when, 0.1, varentropy_below=1.5)
    _maybe(chance, when, 0.1, top_probability_below=chance.random())
    _maybe(chance, when, 0.1, entropy_quantile_above=chance.random())
    _maybe(chance, when, 0.1, confidence_below=chance.uniform(0, 10), confidence_window=chance.choice((1, 16, 2048)))
    _maybe(chance, when, 0.1, words=["wait", "so"], connector_probability_above=0.01)
    _maybe(chance, when, 0.05, words=["wait", "so"], connector_likeliest=True)
    _maybe(chance, when, 0.1, connectors=sorted(FAMILIES)[:2], since_connector_below=5)
    _maybe(chance, when, 0.1, previous=chance.choice(({"endings": [".", "\n"]}, _tokens(chance))))
    _maybe(chance, when, 0.1, end_of_reasoning_within=chance.uniform(0, 10))
    _maybe(chance, when, 0.3, region=chance.choice(("reasoning", "answer", "any")))
    _maybe(chance, when, 0.2, after_token=chance.randint(0, 5))
    _maybe(chance, when, 0.2, before_token=chance.randint(6, 30))
    _maybe(chance, when, 0.2, every=chance.randint(1, 5))
    _maybe(chance, when, 0.2, probability=chance.random())
    _maybe(chance, when, 0.2, at_most=chance.randint(1, 4))
    return when


def _maybe(chance: random.Random, fields: dict[str, Any], share: float, **more: Any) -> None:
    if chance.random() < share:
        fields |= more
