"""A request's tokens and tree as JSON."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.worker.records import IN_REASONING, RULES_SHIFT
from forkpoint_server.requests import serialize
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.requests.serialize import (
    choice_to_dict,
    fork_points,
    heading_to_dict,
    intervention_points,
    node_state,
    node_to_dict,
    number_prompts,
    summary_to_dict,
    trace_to_dict,
    tree_to_dict,
)
from forkpoint_server.requests.tree import MAX_ANSWER, Tree
from forkpoint_server.traces.detokenize import Detokenizer
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.factories import Json
from tests.unit.policies.vocabularies import END, VOCABULARY, token, tokens
from tests.unit.server.requests.recorded import add_record, context_of

OBSERVE: Json = {"observe": {}}
COOL: Json = {"temperature": 0.5}
WAIT, SO, LET = tokens("Wait|so|let")
PART = token(b"\xa9g")
PROMPT = [LET, SO]
TEXTS = Detokenizer(VOCABULARY)


def answered(label: str = "it", forks: bool = False) -> RequestContext:
    """Two choices of one prompt: the first forks at 0, and the policy has an effect at 1."""
    context = context_of(
        OBSERVE,
        COOL,
        label=label,
        options=RequestOptions(forks=forks),
        response_id="cmpl-1",
        stop_tokens=frozenset({END, 3}),
    )
    first = Trace(1, 0, tokens=[WAIT, PART, END], prompt=PROMPT, threshold=0.672, max_alternatives=2)
    second = Trace(2, 1, tokens=[SO], prompt=PROMPT)
    assert context.compiled.actions == ("observe", "temperature")
    add_record(first, 0, 1.0, IN_REASONING)
    add_record(first, 1, 0.25, IN_REASONING | 0b11 << RULES_SHIFT, (0.0, 0.5))
    add_record(first, 2, 0.125, 0b10 << RULES_SHIFT, (0.0, 0.005))
    add_record(second, 0, 0.5)
    first.add_alternatives(0, 1.0, np.array([WAIT, SO], np.int32), np.array([-0.75, 0.125], np.float32))
    context.traces += [first, second]
    return context


def test_the_first_event_has_each_prompt_once() -> None:
    context = answered()
    context.traces.append(Trace(3, 2, prompt=[WAIT]))
    heading = heading_to_dict(context)
    assert (heading["id"], heading["object"], heading["policy"]) == ("cmpl-1", "trace.begun", "it")
    assert heading["digest"] == context.compiled.digest
    assert heading["prompts"] == [{"token_ids": PROMPT, "text": "letso"}, {"token_ids": [WAIT], "text": "Wait"}]
    assert heading["stop_token_ids"] == [3, END]
    observed = heading_to_dict(answered(label="none"))
    assert (observed["policy"], observed["digest"], observed["shadow"]) == (None, None, False)


def test_a_choice_has_the_tokens_that_were_not_sent_yet() -> None:
    context = answered()
    trace = context.traces[0]
    choice = choice_to_dict(context, trace, trace.profile(), number_prompts(context.traces), 1)
    assert (choice["index"], choice["prompt"], choice["begun"], choice["told"]) == (0, 0, 0, 1)
    assert choice["token_ids"] == [PART, END]
    assert choice["token_bytes"] == {1: b"\xa9g".hex()}, (
        "a token that is not a whole character, by its index in the choice"
    )
    assert choice["positions"] == [0, 1, 2]
    assert choice["entropies"] == [1.0, 0.25, 0.125]
    assert choice["in_reasoning"] == [True, True, True]
    assert choice["actions"] == [[], ["observe", "temperature"], ["temperature"]]


def test_forks_have_their_alternatives() -> None:
    context = answered()
    (point,) = fork_points(context, context.traces[0], context.traces[0].profile())
    assert point == {
        "choice": 0,
        "index": 0,
        "token": "Wait",
        "token_id": WAIT,
        "bytes": list(b"Wait"),
        "entropy": 1.0,
        "connector": "reflection",
        "alternatives": [
            {"token": "Wait", "token_id": WAIT, "bytes": list(b"Wait"), "probability": 0.75, "possible": False},
            {"token": "so", "token_id": SO, "bytes": list(b"so"), "probability": 0.125, "possible": True},
        ],
        "action": None,
        "effect": 0.0,
    }


def test_a_token_that_is_no_whole_character_is_exact_in_bytes() -> None:
    assert TEXTS.to_dict(PART) == {"token": "\ufffdg", "token_id": PART, "bytes": [0xA9, 0x67]}


def test_a_point_of_intervention_names_the_action_and_not_the_observation() -> None:
    context = answered()
    (point,) = intervention_points(context, context.traces[0], context.traces[0].profile())
    assert (point["index"], point["action"], point["effect"]) == (1, "temperature", 0.5)
    observed = answered(label="none")
    assert intervention_points(observed, observed.traces[0], observed.traces[0].profile()) == []


def test_the_whole_trace_is_json_and_holds_all_choices() -> None:
    whole: dict[str, Any] = json.loads(json.dumps(trace_to_dict(answered())))
    assert whole["object"] == "trace"
    assert [choice["token_ids"] for choice in whole["choices"]] == [[WAIT, PART, END], [SO]]
    assert [(point["choice"], point["index"]) for point in whole["fork_points"]] == [(0, 0)]
    assert [(point["choice"], point["index"]) for point in whole["intervention_points"]] == [(0, 1)]
    assert whole["tree"] is None
    assert whole["forkpoint"]["tokens"] == 4


def test_a_response_lists_forks_only_on_request() -> None:
    assert "fork_points" not in summary_to_dict(answered())
    assert len(summary_to_dict(answered(forks=True))["fork_points"]) == 1


def test_a_branch_says_what_it_replaces() -> None:
    tree, trunk = Tree(), Trace(1, 0, tokens=[WAIT, SO, END], threshold=0.672, max_alternatives=2)
    trunk.add_alternatives(1, 1.0, np.array([LET, SO], np.int32), np.array([0.5, 0.25], np.float32))
    trunk.forks[1] = 1.0
    root = tree.add(trunk, None, 0, (), "answer")
    branch = tree.add(Trace(2, 1, tokens=[END]), root, 1, (LET,), "answer")
    as_root, as_branch = node_to_dict(root, TEXTS), node_to_dict(branch, TEXTS)
    assert (as_root["parent"], as_root["position"], as_root["token"], as_root["tokens_generated"]) == (
        None,
        None,
        None,
        3,
    )
    assert (as_branch["parent"], as_branch["position"], as_branch["token"]) == (0, 1, "let")
    assert as_branch["instead_of"] == "so"
    assert [one["token"] for one in as_branch["alternatives"]] == ["let", "so"]
    assert (as_branch["entropy"], as_branch["depth"]) == (1.0, 1)
    assert (as_branch["tokens_shared"], as_branch["tokens_generated"]) == (1, 2)


def test_a_node_has_what_it_says() -> None:
    tree = Tree(extract="text")
    node = tree.add(Trace(1, 0, tokens=[WAIT]), None, 0, (), "answer")
    before = node_state(node)
    assert node_to_dict(node, TEXTS)["answer"] is None
    node.answer = "4" * MAX_ANSWER
    assert node_state(node) != before
    assert node_to_dict(node, TEXTS)["answer"] == node.answer
    node.answer += "5"
    assert node_to_dict(node, TEXTS)["answer"] == "4" * (MAX_ANSWER - 1) + "…"
    assert tree_to_dict(tree, TEXTS)["extract"] == "text"


def test_a_branch_ahead_of_its_parent_changes_once_the_parent_gets_there() -> None:
    tree = Tree()
    root = tree.add(Trace(1, 0, tokens=[WAIT]), None, 0, (), "answer")
    branch = tree.add(Trace(2, 1), root, 1, (LET,), "answer")
    assert node_to_dict(branch, TEXTS)["instead_of"] is None
    before = node_state(branch)
    root.trace.tokens.append(SO)
    assert node_to_dict(branch, TEXTS)["instead_of"] == "so"
    assert node_state(branch) != before


@pytest.mark.parametrize(("at_once", "in_thread"), [(3, True), (4, False)])
async def test_many_fork_points_are_made_off_the_event_loop(
    at_once: int, in_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forkpoint_server.requests.serialize.MAX_TOKENS_AT_ONCE", at_once)
    context, threads = answered(forks=True), []
    make = serialize.summary_to_dict

    def observed(context: RequestContext) -> Json:
        threads.append(threading.current_thread() is not threading.main_thread())
        return make(context)

    monkeypatch.setattr(serialize, "summary_to_dict", observed)
    assert json.loads(await serialize.summarise_request(context)) == make(context)
    assert threads == [in_thread]
    context.options = RequestOptions()
    await serialize.summarise_request(context)
    assert threads == [in_thread, False], "without `forks` it takes no time"
