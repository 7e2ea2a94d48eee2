"""An answer that begins with shared tokens reads as if one request had written it whole."""

from __future__ import annotations

import pytest
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import SamplingParams

from forkpoint_server.branching.choice_output import Answer, branched, text_of, whole_characters
from tests.unit.policies.vocabularies import VOCABULARY, token, tokens


def given(text: str, ids: list[int], ended: str | None = None) -> CompletionOutput:
    return CompletionOutput(
        index=0, text=text, token_ids=ids, cumulative_logprob=None, logprobs=None, finish_reason=ended
    )


def test_a_branch_begins_with_what_it_shares_and_its_own_token() -> None:
    params = SamplingParams()
    trunk = Answer(0)
    trunk.add(given("so, wait", tokens("so|, wait")), params)
    branch = branched(1, trunk, 1, tokens("."), 0.25, VOCABULARY, params)
    assert branch.tokens == [*tokens("so|, wait")[:1], *tokens(".")]
    assert branch.text == text_of(branch.tokens, VOCABULARY, params)
    branch.add(given(" so", tokens(" so")), params)
    told = branch.output(params, difference=False)
    assert told is not None
    assert told.text == text_of(branch.tokens, VOCABULARY, params)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_across_the_seam(include: bool) -> None:
    """vLLM sees only the branch's own text: what begins in the shared part is looked for here."""
    params = SamplingParams(stop=["abcd"], include_stop_str_in_output=include)
    branch = Answer(1, "xxab", [1, 2], shared=4, begun=4)
    branch.add(given("c", [3]), params)
    first = branch.output(params, difference=True)
    assert first is not None
    assert first.text == "x", "the rest may yet be the beginning of the stop string"
    branch.add(given("dzz", [4, 5]), params)
    last = branch.output(params, difference=True)
    assert last is not None
    assert (last.finish_reason, last.stop_reason) == ("stop", "abcd")
    assert first.text + last.text == ("xxabcd" if include else "xx")


def test_what_is_held_back_comes_with_the_end() -> None:
    params = SamplingParams(stop=["abcd"])
    branch = Answer(1, "xxab", [1, 2], shared=4, begun=4)
    branch.add(given("c", [3]), params)
    pieces = [branch.output(params, difference=True)]
    branch.add(given("", [4], "length"), params)
    pieces.append(branch.output(params, difference=True))
    assert "".join(piece.text for piece in pieces if piece is not None) == "xxabc"


def test_a_stop_string_in_what_is_shared_ends_a_branch_before_it_began() -> None:
    params = SamplingParams(stop=["so."])
    trunk = Answer(0)
    trunk.add(given("so, wait", tokens("so|, wait")), params)
    assert branched(1, trunk, 1, tokens("."), 0.25, VOCABULARY, params).finish_reason == "stop"


def test_log_probabilities_of_a_branch() -> None:
    """Those of the shared tokens, of the token in place of the drawn one, and of what else was asked for there."""
    params = SamplingParams(logprobs=1)
    likeliest, other, drawn = tokens("so")[0], tokens(".")[0], tokens("wait")[0]
    step = {drawn: Logprob(-2.0, 3, "wait"), likeliest: Logprob(-0.1, 1, "so")}
    trunk = Answer(0, "so wait", [likeliest, drawn], [{likeliest: Logprob(-0.5, 1, "so")}, step])
    branch = branched(1, trunk, 1, [other], 0.25, VOCABULARY, params)
    assert len(branch.steps) == len(branch.tokens) == 2
    assert branch.steps[1][other].logprob == pytest.approx(-1.3863, abs=1e-4)
    assert set(branch.steps[1]) == {other, likeliest}, "the drawn token was told of only because it was drawn"
    assert branch.log_probability == pytest.approx(-1.8863, abs=1e-4)
    written = branched(1, trunk, 1, [other, likeliest], 1.0, VOCABULARY, params)
    assert written.steps[2][likeliest].logprob == 0.0


def test_a_branch_does_not_begin_within_a_character() -> None:
    whole = whole_characters(VOCABULARY)
    assert whole(tokens("so|, wait"))
    assert whole([*tokens("so"), token(b"\xe7\xad"), token(b"\x89wait")])
    assert not whole([*tokens("so"), token(b" \xc3")])
    assert not whole([token(b"\xe7\xad")])
