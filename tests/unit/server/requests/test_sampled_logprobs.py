"""The log probabilities of a request's choices, and of its traces."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forkpoint_policies.worker.records import FORCED
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.requests.sampled_logprobs import choices_to_dicts, trace_to_logprobs
from forkpoint_server.requests.serialize import summary_to_dict, trace_to_dict
from forkpoint_server.requests.tree import Tree
from forkpoint_server.traces.logprobs import PolicyLogprobs
from forkpoint_server.traces.trace import Trace
from tests.unit.server.requests.recorded import add_record, context_of

WANTED = RequestOptions(policy_logprobs=True)


def trace_of(choice: int, tokens: list[int], nats: list[float], first_position: int = 0) -> Trace:
    """A trace whose tokens have these log probabilities, and twice those before the policy."""
    trace = Trace(choice + 1, choice, tokens=tokens, first_position=first_position, logprobs=PolicyLogprobs())
    trace.raw_logprobs.extend(2 * one for one in nats)
    for position, (token, one) in enumerate(zip(tokens, nats, strict=True), first_position):
        trace.add_logprob(position, token, one)
        add_record(trace, position, 1.0)
    return trace


def test_each_choice_has_its_tokens() -> None:
    context = context_of(options=WANTED)
    context.traces += [trace_of(0, [7, 8], [-0.5, -1.0]), trace_of(1, [9], [-0.25])]
    assert summary_to_dict(context)["choices"] == [
        {"index": 0, "token_ids": [7, 8], "policy_logprobs": [-0.5, -1.0], "logprobs": [-1.0, -2.0], "written": []},
        {"index": 1, "token_ids": [9], "policy_logprobs": [-0.25], "logprobs": [-0.5], "written": []},
    ]
    assert [choice["policy_logprobs"] for choice in trace_to_dict(context)["choices"]] == [[-0.5, -1.0], [-0.25]]


def test_a_response_lists_them_only_on_request() -> None:
    context = context_of()
    context.traces.append(Trace(1, 0, tokens=[7]))
    assert "choices" not in summary_to_dict(context)
    (choice,) = trace_to_dict(context)["choices"]
    assert (choice["policy_logprobs"], choice["logprobs"]) == (None, None)


def test_forced_tokens_are_written() -> None:
    trace = trace_of(0, [7, 8], [-0.5, 0.0])
    add_record(trace, 1, 1.0, FORCED)
    assert trace_to_logprobs(trace)["written"] == [1]


def test_lost_ones_and_impossible_tokens_are_null() -> None:
    trace = trace_of(0, [7, 8], [-0.5, -math.inf])
    trace.tokens.append(9)
    found = trace_to_logprobs(trace)
    assert found["policy_logprobs"] == [-0.5, None, None]
    assert found["logprobs"] == [-1.0, None, None]


def test_a_branch_has_what_it_shares_and_its_first_token_as_its_parent_would_have_sampled_it() -> None:
    context = context_of({"branch": {"width": 1}}, options=WANTED)
    trunk = trace_of(0, [7, 8, 9], [-0.5, -1.0, -2.0])
    trunk.threshold, trunk.max_alternatives = 0.0, 2
    trunk.add_alternatives(1, 1.0, np.array([8, 5], np.int32), np.array([0.5, 0.125], np.float32))
    trunk.add_logprob(1, 5, -3.0)
    tree = context.tree = Tree()
    root = tree.add(trunk, None, 0, (), "answer")
    branch = tree.add(trace_of(1, [4], [-0.25], first_position=2), root, 1, (5,), "answer")
    tree.add(trace_of(2, [3], [-0.125]), None, 0, (), "answer")  # not returned
    root.choice, branch.choice = 1, 0
    assert choices_to_dicts(context) == [
        {
            "index": 0, "token_ids": [7, 5, 4], "policy_logprobs": [-0.5, -3.0, -0.25],
            "logprobs": [-1.0, pytest.approx(math.log(0.125), abs=1e-6), -0.5], "written": [1],
        },
        {
            "index": 1, "token_ids": [7, 8, 9], "policy_logprobs": [-0.5, -1.0, -2.0], "logprobs": [-1.0, -2.0, -4.0],
            "written": [],
        },
    ]  # fmt: skip


def test_a_text_of_the_policy_is_certain() -> None:
    context = context_of({"resume": {"budget_tokens": 50, "text": "Wait"}}, options=WANTED)
    tree = context.tree = Tree()
    root = tree.add(trace_of(0, [7, 8], [-0.5, -1.0]), None, 0, (), "answer")
    tree.add(trace_of(1, [4], [-0.25], first_position=3), root, 1, (5, 6), "answer").choice = 0
    (choice,) = choices_to_dicts(context)
    assert choice["policy_logprobs"] == [-0.5, 0.0, 0.0, -0.25]
    assert choice["logprobs"] == [-1.0, None, None, -0.5]
    assert choice["written"] == [1, 2]
