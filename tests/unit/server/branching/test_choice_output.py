"""A choice that starts with shared tokens reads as if one request had generated all of it."""

from __future__ import annotations

import pytest
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import SamplingParams

from forkpoint_server.branching.choice_output import ChoiceOutput, branch_output, ends_at_character, text_of
from tests.unit.policies.vocabularies import VOCABULARY, token, tokens


def delta(text: str, ids: list[int], finish_reason: str | None = None) -> CompletionOutput:
    return CompletionOutput(
        index=0, text=text, token_ids=ids, cumulative_logprob=None, logprobs=None, finish_reason=finish_reason
    )


def test_a_branch_starts_with_the_shared_tokens_and_its_own() -> None:
    params = SamplingParams()
    trunk = ChoiceOutput(0)
    trunk.add(delta("so, wait", tokens("so|, wait")), params)
    branch = branch_output(1, trunk, 1, tokens("."), 0.25, VOCABULARY, params)
    assert branch.tokens == [*tokens("so|, wait")[:1], *tokens(".")]
    assert branch.text == text_of(branch.tokens, VOCABULARY, params)
    branch.add(delta(" so", tokens(" so")), params)
    assert branch.whole(params).text == text_of(branch.tokens, VOCABULARY, params)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_across_the_seam(include: bool) -> None:
    """vLLM sees only the branch's own text: a stop string that starts in the shared part is searched for here."""
    params = SamplingParams(stop=["abcd"], include_stop_str_in_output=include)
    branch = ChoiceOutput(1, "xxab", [1, 2], shared_characters=4, seam=4)
    branch.add(delta("c", [3]), params)
    first = branch.delta(params)
    assert first is not None
    assert first.text == "x", "the rest may still be the start of the stop string"
    branch.add(delta("dzz", [4, 5]), params)
    last = branch.delta(params)
    assert last is not None
    assert (last.finish_reason, last.stop_reason) == ("stop", "abcd")
    assert first.text + last.text == ("xxabcd" if include else "xx")


def test_text_held_back_is_sent_at_the_end() -> None:
    params = SamplingParams(stop=["abcd"])
    branch = ChoiceOutput(1, "xxab", [1, 2], shared_characters=4, seam=4)
    branch.add(delta("c", [3]), params)
    pieces = [branch.delta(params)]
    branch.add(delta("", [4], "length"), params)
    pieces.append(branch.delta(params))
    assert "".join(piece.text for piece in pieces if piece is not None) == "xxabc"


def test_a_stop_string_in_the_shared_text_ends_a_branch_before_it_starts() -> None:
    params = SamplingParams(stop=["so."])
    trunk = ChoiceOutput(0)
    trunk.add(delta("so, wait", tokens("so|, wait")), params)
    assert branch_output(1, trunk, 1, tokens("."), 0.25, VOCABULARY, params).finish_reason == "stop"


def test_log_probabilities_of_a_branch() -> None:
    """Of the shared tokens, of the token that replaces the sampled one, and of the others requested there."""
    params = SamplingParams(logprobs=1)
    likeliest, other, sampled = tokens("so")[0], tokens(".")[0], tokens("wait")[0]
    step = {sampled: Logprob(-2.0, 3, "wait"), likeliest: Logprob(-0.1, 1, "so")}
    trunk = ChoiceOutput(0, "so wait", [likeliest, sampled], [{likeliest: Logprob(-0.5, 1, "so")}, step])
    branch = branch_output(1, trunk, 1, [other], 0.25, VOCABULARY, params)
    assert len(branch.logprobs) == len(branch.tokens) == 2
    assert branch.logprobs[1][other].logprob == pytest.approx(-1.3863, abs=1e-4)
    assert set(branch.logprobs[1]) == {other, likeliest}, "the sampled token was listed only because it was sampled"
    assert branch.log_probability == pytest.approx(-1.8863, abs=1e-4)
    written = branch_output(1, trunk, 1, [other, likeliest], 1.0, VOCABULARY, params)
    assert written.logprobs[2][likeliest].logprob == 0.0


def test_a_branch_does_not_start_within_a_character() -> None:
    assert ends_at_character(tokens("so|, wait"), VOCABULARY)
    assert ends_at_character([*tokens("so"), token(b"\xe7\xad"), token(b"\x89wait")], VOCABULARY)
    assert not ends_at_character([*tokens("so"), token(b" \xc3")], VOCABULARY)
    assert not ends_at_character([token(b"\xe7\xad")], VOCABULARY)
