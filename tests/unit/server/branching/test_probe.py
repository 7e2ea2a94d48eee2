"""A probe tries the answer, and ends the reasoning if it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.interface import TrialSampling
from forkpoint_server.requests.tree import Node
from tests.unit.policies.vocabularies import END, END_THINK, VOCABULARY, encode, token, tokens

from .stub_engine import A, StubTree, rest

ECK = token("eck")


def written(ids: Sequence[int]) -> str:
    return b"".join(VOCABULARY.tokens[one] for one in ids).decode()


def followed(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node.kind == "answer" and node.parent is not None]


def test_the_first_certain_probe_ends_the_reasoning() -> None:
    """Even if the trunk ends first; the answer is tried in place of the word, one token before the position."""
    policy = parse_policy(
        {"rules": [{"when": {"previous": {"words": ["so"]}}, "do": {"probe": {"tokens": 3, "probability_above": 0.4}}}]}
    )
    trunk = tokens("eck| so|eck| so")
    tree = StubTree(
        policy,
        lambda start: [*trunk[len(start.tokens) :], END],
        forks=lambda start, at: not start.tokens and at in (2, 4),
    )
    nodes = tree.run()
    assert (nodes[1].kind, nodes[1].position, nodes[1].forced_tokens) == ("probe", 1, (token(" "), END_THINK))
    assert [(node.position, node.forced_tokens, node.chosen) for node in followed(nodes)] == [
        (1, (token(" "), END_THINK), True)
    ]
    assert tree.started[1].trial == TrialSampling(3)


def test_probes_that_are_never_sure_change_nothing() -> None:
    probing = {"probe": {"tokens": 3, "probability_above": 0.9}}
    tree = StubTree(probing, rest, forks=lambda start, position: not start.tokens)
    nodes = tree.run()
    assert [node.number for node in nodes if node.chosen] == [0]
    assert tree.texts() == {0: "so" * 6}


def test_a_trial_answer_has_a_text_and_a_sampling_of_its_own() -> None:
    probing = {
        "probe": {
            "before": "\n", "text": "so: ", "tokens": 9, "stop": ["}"], "temperature": 0.6, "top_p": 0.9,
            "presence_penalty": 1.0, "agreement": 2, "end_reasoning": {"before": "!", "after": "?"},
        }
    }  # fmt: skip
    tree = StubTree(probing, rest, forks=lambda start, position: not start.tokens and position in (1, 2))
    nodes = tree.run()
    assert tree.started[1].trial == TrialSampling(9, ("}",), (), 0.6, 0.9, 1.0)
    assert written(tree.started[1].tokens) == "so\n</think>so: "
    (exit_,) = followed(nodes)
    assert written(exit_.forced_tokens) == "!</think>?"


def test_a_trial_answer_in_the_reasoning_has_no_marker_before_it() -> None:
    probing = {"probe": {"place": "reasoning", "text": " so", "probability_above": 0.4}}
    tree = StubTree(probing, rest, forks=lambda start, position: not start.tokens and position == 2)
    (exit_,) = followed(tree.run())
    assert written(tree.started[1].tokens) == "soso so"
    assert exit_.forced_tokens == (END_THINK,)


def test_the_reasoning_goes_on_for_a_while_after_the_probe() -> None:
    """Until it has so many tokens; not where it has ended by then."""
    probing = {"probe": {"tokens": 1, "probability_above": 0.4, "exit_after_tokens": 3}}
    trunk = [ECK] * 9
    tree = StubTree(
        probing, lambda start: [*trunk[len(start.tokens) :], END], forks=lambda start, at: not start.tokens and at == 2
    )
    (exit_,) = followed(tree.run())
    assert exit_.position == 5
    ended = StubTree(
        probing, lambda start: [ECK, ECK, ECK, END_THINK, ECK, ECK, END],
        forks=lambda start, at: not start.tokens and at == 2,
    )  # fmt: skip
    assert followed(ended.run()) == []


def test_the_answer_can_be_written_and_the_text_ended() -> None:
    end = {"before": "", "after": "so {answer}!", "stop": True}
    probing = {"probe": {"tokens": 4, "agreement": 2, "text": "so ", "extract": "last_number", "end_reasoning": end}}
    tree = StubTree(
        probing, lambda start: [*encode("42"), END] if start.trial else [A] * 9 + [END],
        forks=lambda start, at: not start.tokens and at in (1, 3),
    )  # fmt: skip
    nodes = tree.run()
    (exit_,) = followed(nodes)
    assert (exit_.position, exit_.ended, exit_.chosen) == (3, "stop", True)
    assert written(exit_.forced_tokens) == "</think>so 42!" + written([END])
    assert len(tree.started) == 3, "the trunk and two trial answers: the answer itself needs no request"
    assert tree.texts() == {0: "sososo" + "so 42!"}
    assert tree.outputs_sent[-1].outputs[0].finish_reason == "stop"


def test_trial_answers_with_a_word_of_doubt_count_as_different() -> None:
    probing = {"probe": {"tokens": 9, "agreement": 2, "extract": "last_number", "rejects": ["hmm"]}}
    said = iter(["42", "42 Hmm", "42", "42", "7"])
    tree = StubTree(
        probing, lambda start: [*encode(next(said)), END] if start.trial else [A] * 9 + [END],
        forks=lambda start, at: not start.tokens and at in (1, 2, 3, 4, 5), answers=9,
    )  # fmt: skip
    (exit_,) = followed(tree.run())
    assert exit_.position == 4, "the third and the fourth"


def test_a_probe_only_after_more_text() -> None:
    """A further blank line ends no step: its trial answer would start where the last one has."""
    policy = parse_policy(
        {
            "rules": [
                {
                    "when": {"previous": {"endings": ["\n\n"]}},
                    "do": {"probe": {"tokens": 1, "drop": "previous", "variance_below": 0.1}},
                }
            ]
        }
    )
    trunk: list[Any] = tokens("eck|\n\n|\n\n|\n\n|eck|\n\n")
    tree = StubTree(
        policy, lambda start: [*trunk, END] if start.first else [END],
        forks=lambda start, at: not start.tokens and at in (2, 3, 4, 6), answers=9,
    )  # fmt: skip
    assert [node.position for node in tree.run() if node.kind == "probe"] == [1, 5]


def test_what_streams_before_a_probe_is_never_taken_back() -> None:
    """A trial answer may start before the tokens of its rule's ending: those are held back."""
    policy = parse_policy(
        {
            "rules": [
                {
                    "when": {"previous": {"endings": [".\n\n"]}},
                    "do": {"probe": {"tokens": 1, "drop": "previous", "probability_above": 0.4}},
                }
            ]
        }
    )
    trunk = encode("so.") + tokens("\n\n")
    tree = StubTree(
        policy, lambda start: [*trunk, *[ECK] * 9, END] if start.first else [A, END],
        forks=lambda start, at: not start.tokens and at == len(trunk),
    )  # fmt: skip
    (chosen,) = (node for node in tree.run() if node.chosen)
    assert written(chosen.tokens()) == "so</think>so" + written([END])
    assert [one for output in tree.outputs_sent for one in output.outputs[0].token_ids] == chosen.tokens()
