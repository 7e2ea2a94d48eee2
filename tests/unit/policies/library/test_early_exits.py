"""Early exits stop where their authors' code does: each rule is written down here once more, on text, and replayed.

A case scripts the reasoning and what the model would say in each trial; the reference is the authors' loop in a few
lines, which returns the text that their code would go on with.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import UNLIMITED, Action, Signal, Walk
from forkpoint_policies.compile.regions import IN_REASONING, Region
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.requests.tree import Node
from tests.unit.policies.vocabularies import END, END_THINK, TARGET, VOCABULARY, encode
from tests.unit.server.branching.stub_engine import A, StubTree

MARKER = "</think>"


def text_of(tokens: Sequence[int]) -> str:
    return b"".join(VOCABULARY.tokens[token] for token in tokens).decode()


def tokens_of(text: str) -> list[int]:
    """The tokens of a text with end markers, each of them one token."""
    first, *others = (encode(part) for part in text.split(MARKER))
    return [*first, *(token for part in others for token in (END_THINK, *part))]


def fires_at(policy: Policy, tokens: Sequence[int]) -> list[int]:
    """The positions at which the conditions of a policy's tree rule on the text hold, by its compiled program."""
    program = compile_policy(policy, TARGET).program
    rule = program.rules[program.tree_rule_index or 0]
    entries = set(zip(rule.previous.states, rule.previous.tokens, strict=True))
    walk, word, region, found = Walk.of(program), FREE, int(Region.REASONING), list[int]()
    before = FREE  # the state of the words before the last token
    for position, token in enumerate([*tokens, END]):
        last = tokens[position - 1] if position else None
        held = not rule.needs_previous or (last is not None and bool({(ANY_STATE, last), (before, last)} & entries))
        in_time = position >= rule.first_position and position % rule.every == 0
        if held and in_time and region & IN_REASONING and len(found) < rule.at_most:
            found.append(position)
        before = word
        word, region = walk.step(token, word, region)
    return found


@dataclass
class Trial:
    """What the model would say in a trial, token by token, with the probability and the entropy (nats) of each."""

    said: Sequence[str]
    probabilities: Sequence[float] = ()
    entropies: Sequence[float] = ()

    def until(self, stops: Sequence[str], most: int) -> int:
        """How many tokens a request with these stop strings returns: vLLM's end with the one that completes a stop."""
        text = ""
        for number, one in enumerate(self.said[:most], 1):
            text += one
            if any(stop in text for stop in stops):
                return number
        return min(most, len(self.said))


@dataclass
class Replay:
    """A policy on a scripted reasoning. `trials` are what the model says in them, in the order in which they start."""

    policy: Policy
    reasoning: str
    trials: Callable[[int, str], Trial]
    top: Callable[[int], float] = lambda position: 0.5
    end_probability: Callable[[int], float] = lambda number: 0.1
    prompts: list[str] = field(default_factory=list)  # the text before each trial
    _number: dict[str, int] = field(default_factory=dict)  # of a trial, by the text before it

    def text(self) -> str:
        """The returned text up to the end of the reasoning and what was written after it."""
        trunk = tokens_of(self.reasoning)
        fired = set(fires_at(self.policy, trunk))
        tree = StubTree(
            self.policy, self._play, forks=lambda start, at: start.first and at in fired, answers=200, max_running=500,
            longest=10_000, top=self._top, entropy=self._entropy, likely=self._likely, likeliest=(END_THINK, 0, 1),
        )  # fmt: skip
        nodes = tree.run()
        (chosen,) = (node for node in nodes if node.chosen)
        replaced = chosen.parent is not None
        kept = chosen.tokens(chosen.position + len(chosen.forced_tokens)) if replaced else chosen.tokens()
        return text_of([token for token in kept if token != END])

    def _play(self, start: ChildStart) -> list[int]:
        if start.trial is None:
            return [*tokens_of(self.reasoning), END] if start.first else [END]
        trial = self._trial(start)
        stops = [*start.trial.stop, *(MARKER for token in start.trial.stop_token_ids if token == END_THINK)]
        count = trial.until(stops, start.trial.max_tokens)
        return [tokens_of(one)[0] for one in trial.said[:count]]

    def _trial(self, start: ChildStart) -> Trial:
        prompt = text_of(start.tokens)
        if prompt not in self._number:
            self._number[prompt] = len(self.prompts)
            self.prompts.append(prompt)
        return self.trials(self._number[prompt], prompt)

    def _of(self, start: ChildStart, position: int, values: Sequence[float], default: float) -> float:
        own = position - len(start.tokens)
        return values[own] if own < len(values) else default

    def _top(self, start: ChildStart, position: int) -> float:
        if start.trial is None:
            return self.top(position)
        return self._of(start, position, self._trial(start).probabilities, 0.01)

    def _entropy(self, start: ChildStart, position: int) -> float:
        return self._of(start, position, self._trial(start).entropies, 9.0) if start.trial is not None else 9.0

    def _likely(self, start: ChildStart) -> tuple[float, ...]:
        if start.trial is None:
            return (0.1, 0.1, 0.1)
        self._trial(start)
        return (self.end_probability(self._number[text_of(start.tokens)]), 0.0, 0.0)


def use(name: str, **values: Any) -> Policy:
    return LIBRARY[name].use(values)


@pytest.mark.parametrize("name", ["deer", "deer-qwen3", "eat", "answer-convergence", "think-brake", "dynasor"])
def test_each_has_a_placebo_and_a_source(name: str) -> None:
    entry = LIBRARY[name]
    assert entry.source.startswith("arXiv:")
    assert "; code: " in entry.source
    assert matches_of(entry.policy) == ("positions",)


# DEER

BOX = "\n**Final Answer**\n\\boxed"
CLOSES = (" }", "}\n", "}\n\n", "}.", "}.\n", "}\\", "}}", ")}", ")}.", ")}\n")
SURE = Trial(["{", "4", "2", "}", ".", "x"], [0.5, 0.97, 0.96, 0.95, 0.96, 0.1])
UNSURE = Trial(["{", "4", "2", "}", ".", "x"], [0.99, 0.95, 0.95, 0.95, 0.95, 1.0])
"""Mean .96 and .95 without the opening brace; the reasoning ends above .95."""
AFTER_THE_BRACE = Trial(["{", "4", "2", "}", "."], [0.9, 0.99, 0.99, 0.99, 0.7])
"""Mean .99 up to the brace and .9175 up to the token that completes a stop string, which counts."""
NO_STOP = Trial(["{", "4", "}", "$", *"x" * 30], [0.9, 0.99, 0.99, 0.99, *[0.9] * 30])
"""'}$' is none of the stop strings, so the trial has 20 tokens: mean .914, and .99 up to the brace."""


def authors_deer(reasoning: str, trials: Iterator[Trial], word: str, most: int = 10) -> str:
    """vllm-deer.py: stop at the word, try, and either leave or write the word again and go on. The mean (`avg1`) is of
    all tokens of the trial but the first, up to the one that completes a stop string or the twentieth."""
    history, rest = "", reasoning
    for _ in range(most):
        chunk, found, rest = rest.partition(word)
        if not found:
            return reasoning
        history += chunk
        trial = next(trials)
        probabilities = trial.probabilities[1 : trial.until(CLOSES, 20)]
        if sum(probabilities) / len(probabilities) > 0.95 + 1e-12:
            return f"{history}\n{MARKER}\n\n"
        history += word
    return reasoning


DEER = {
    "at the second word": ("I say so. Wait, but so. Wait! let so", [UNSURE, SURE]),
    "never": ("I say so. Wait, but so. Wait! let so", [UNSURE, UNSURE]),
    "at once": ("\nWait, so", [SURE]),
    "not in another case": ("so wait, so\n\nwait. Alternatively so. Wait, so", [SURE]),
    "not after ten": ("so. Wait " * 10 + "so. Wait, so", [UNSURE] * 10),
    "at the tenth": ("so. Wait " * 10 + "so", [UNSURE] * 9 + [SURE]),
    "what closes the box counts": ("so. Wait, so. Wait, so", [AFTER_THE_BRACE, SURE]),
    "an end that is no stop string": ("so. Wait, so. Wait, so", [NO_STOP, SURE]),
}


@pytest.mark.parametrize(("reasoning", "trials"), DEER.values(), ids=DEER.keys())
def test_deer(reasoning: str, trials: list[Trial]) -> None:
    replay = Replay(use("deer"), reasoning, lambda number, prompt: trials[number])
    assert replay.text() == authors_deer(reasoning, iter(trials), "Wait")
    chunks = reasoning.split("Wait")
    assert replay.prompts == ["Wait".join(chunks[: number + 1]) + BOX for number in range(len(trials))]


def test_deer_at_the_other_word() -> None:
    reasoning = "so. Wait, so. Alternatively, so"
    replay = Replay(use("deer", word="Alternatively"), reasoning, lambda number, prompt: SURE)
    assert replay.text() == authors_deer(reasoning, iter([SURE]), "Alternatively") == f"so. Wait, so. \n{MARKER}\n\n"


def test_deers_trial_ends_where_theirs_does_or_after_twenty_tokens() -> None:
    policy = use("deer")
    trial = policy.rules[0].do.probe
    assert trial is not None
    assert (trial.tokens, trial.temperature) == (20, 1.0)
    assert trial.stop == CLOSES


@pytest.mark.parametrize(
    ("trial", "ends"),
    [
        (Trial(["{", "4", "}", MARKER], [0.1, 0.99, 0.96, 0.94]), True),  # (.99 · .96 · .94)^⅓ = .963
        (Trial(["{", "4", "}", MARKER], [0.9, 1.0, 1.0, 0.853]), False),  # .9484, and arithmetic .951
        (Trial(["{", "4", "}", "."], [0.9, 0.99, 0.99, 0.99]), False),
        (Trial(["{", *"4" * 19], [0.9] + [0.99] * 19), False),
    ],
)
def test_deer_on_qwen3(trial: Trial, ends: bool) -> None:
    """vllm-deer-qwen3.py: the geometric mean without the first token, and 0 unless the last one ends the reasoning."""
    values = trial.probabilities[1:]
    confidence = math.prod(values) ** (1 / len(values)) if trial.said[-1] == MARKER else 0.0
    assert (confidence > 0.95) == ends
    replay = Replay(use("deer-qwen3"), "so. Wait, so", lambda number, prompt: trial)
    assert replay.text() == (f"so. \n{MARKER}\n\n" if ends else "so. Wait, so")


# EAT


def authors_eat(steps: Sequence[str], entropies: Sequence[float], bound: float, weight: float = 0.2) -> int | None:
    """early_stopping_utils.py: the step after which the variance that was just added ends the reasoning."""
    mean, variance = entropies[0], [0.0]
    for value in entropies[1:]:
        mean = weight * value + (1 - weight) * mean
        variance.append(weight * (value - mean) ** 2 + (1 - weight) * variance[-1])
    return next((number for number, one in enumerate(variance[1:], 1) if number - 1 >= 25 and one < bound), None)


SETTLING = [2.0, 1.0, 1.5, *[0.4, 0.42] * 20]
EAT = {
    "settled early": (SETTLING, 0.05, 26),
    "settled late": (SETTLING, 0.0005, 39),
    "exactly theirs, a fifth below ours before": ([1.0 + (-1) ** number for number in range(40)], 0.72, None),
    "too few steps": (SETTLING[:26], 100.0, None),
    "just enough": (SETTLING[:27], 100.0, 26),
}


@pytest.mark.parametrize(("entropies", "bound", "step"), EAT.values(), ids=EAT.keys())
def test_eat(entropies: list[float], bound: float, step: int | None) -> None:
    steps = [f"so {number}." for number in range(len(entropies))]
    if bound == 0.72:  # between the variance of the authors and the one that is 1.25 of it
        mean, theirs = entropies[0], [0.0]
        for value in entropies[1:]:
            mean = 0.2 * value + 0.8 * mean
            theirs.append(0.2 * (value - mean) ** 2 + 0.8 * theirs[-1])
        bound = (theirs[26] + theirs[26] / 0.8) / 2
        step = next(number for number, one in enumerate(theirs) if number >= 26 and one < bound)
    assert authors_eat(steps, entropies, bound) == step
    reasoning = "".join(f"{one}\n\n" for one in steps)
    replay = Replay(
        use("eat", variance=bound), reasoning, lambda number, prompt: Trial(["4"], [0.9], [entropies[number]])
    )
    text = replay.text()
    assert replay.prompts[:2] == [f"so 0.\n{MARKER}\n\n", f"so 0.\n\nso 1.\n{MARKER}\n\n"]
    assert text == (reasoning if step is None else "\n\n".join(steps[: step + 1]) + f"\n{MARKER}\n\n")


def test_eat_after_a_prompt() -> None:
    replay = Replay(
        use("eat", text="\nFinal answer: "), "so.\n\n\n\nso\n\n", lambda number, prompt: Trial(["4"], [0.9], [1.0])
    )
    replay.text()
    assert replay.prompts == [f"so.\n{MARKER}\nFinal answer: ", f"so.\n\n\n\nso\n{MARKER}\nFinal answer: "]


# Answer convergence


def authors_convergence(sentences: Sequence[str], answers: Sequence[str | None], equal: int) -> str | None:
    """Of the sentences' prefixes, the first at which as many answers in a row are the same string."""
    for number in range(equal - 1, len(answers)):
        last = set(answers[number - equal + 1 : number + 1])
        if len(last) == 1 and None not in last:
            return "".join(sentences[: number + 1]).rstrip()
    return None


CONVERGENCE = {
    "after ten": (["3", "4", *["3.0"] * 12], 10),
    "exactly equal only": (["3", "3.0"] * 8, 10),
    "an answer without an end": (["3"] * 9 + [None] + ["3"] * 9, 10),
    "two": (["3", "4", "4", "5"], 2),
}


@pytest.mark.parametrize(("answers", "equal"), CONVERGENCE.values(), ids=CONVERGENCE.keys())
def test_answer_convergence(answers: list[str | None], equal: int) -> None:
    marks = ["so 3.14 so. ", "so?\n", "so a. ", "let's so!\n\n"]
    sentences = [marks[number % 4] for number in range(len(answers))]
    trials = [Trial([*(answer or "7"), *("}" if answer else "\n"), "\n"]) for answer in answers]
    reasoning = "".join(sentences) + "so"
    replay = Replay(use("answer-convergence", equal=equal), reasoning, lambda number, prompt: trials[number])
    text = replay.text()
    stop = authors_convergence(sentences, answers, equal)
    assert replay.prompts[:2] == [f"so 3.14 so.\n{MARKER}\n\\boxed{{", f"so 3.14 so. so?\n{MARKER}\n\\boxed{{"]
    converged = next((one for one in answers if stop is not None and f"\\boxed{{{one}}}" in text), None)
    assert text == (reasoning if stop is None else f"{stop}\n{MARKER}\n\\boxed{{{converged}}}")
    assert (converged is None) == (stop is None)


def test_the_constants_of_answer_convergence() -> None:
    trial = use("answer-convergence").rules[0].do.probe
    assert trial is not None
    assert (trial.agreement, trial.tokens, trial.stop, trial.temperature) == (10, 100, ("\n",), 0.0)


# ThinkBrake


def authors_brake(steps: Sequence[str], top: Sequence[float], end: Sequence[float], within: float) -> str | None:
    """handler.py: at each ".\\n\\n", the top log probability after it less the marker's after ".\\n" in its place."""
    for number, (likeliest, marker) in enumerate(zip(top, end, strict=True)):
        if math.log(likeliest) - math.log(marker) <= within:
            return ".\n\n".join(steps[: number + 1]) + f".\n{MARKER}\n\n"
    return None


BRAKE = {
    "at the third": ([0.9, 0.8, 0.7, 0.9], [0.1, 0.2, 0.3, 0.9], 1.0),  # 2.20, 1.39, .85
    "at the first, where it is the likelier one": ([0.2, 0.8], [0.3, 0.2], 0.1),
    "never": ([0.9, 0.8], [0.1, 0.2], 0.25),
    "with a wide bound": ([0.9, 0.8], [0.001, 0.1], 2.5),
}


@pytest.mark.parametrize(("top", "end", "within"), BRAKE.values(), ids=BRAKE.keys())
def test_think_brake(top: list[float], end: list[float], within: float) -> None:
    steps = [f"so! so?\n{number}" for number in range(len(top))]
    reasoning = "".join(f"{one}.\n\n" for one in steps) + "so"
    positions = fires_at(use("think-brake"), tokens_of(reasoning))
    assert len(positions) == len(top), "no other mark or newline is a boundary"
    replay = Replay(
        use("think-brake", within=within), reasoning, lambda number, prompt: Trial(["4"], [0.5]),
        top=lambda position: top[positions.index(position)] if position in positions else 0.5,
        end_probability=lambda number: end[number],
    )  # fmt: skip
    assert replay.text() == (authors_brake(steps, top, end, within) or reasoning)
    assert replay.prompts[0] == f"{steps[0]}.\n"
    assert LIBRARY["think-brake"].parameters["within"].default == 1.0


# Dynasor

GUESS = "... Oh, I suddenly got the answer to the whole problem, **Final Answer**\n\n\\[ \\boxed{"


def authors_dynasor(chunks: Sequence[str], guesses: Sequence[str], equal: int) -> str | None:
    """cot.py: each guess is made before a chunk and judged after it; the answer is written and the text ends."""
    doubts = ("wait", "hold", "but", "okay", "no", "hmm")
    text, answers, sure = "", list[str](), list[bool]()
    for chunk, guess in zip(chunks, guesses, strict=True):
        text += chunk
        depth, answer = 0, ""
        for index, one in enumerate(guess):
            if one == "}" and not depth:
                answer = guess[:index]
                break
            depth += (one == "{") - (one == "}")
        answers.append(answer)
        sure.append(not any(word in guess.lower() for word in doubts))
        last = answers[-equal:]
        if len(last) == equal and len(set(last)) == 1 and last[0] and all(sure[-equal:]):
            after = "\n Oh, I have got the answer to the whole problem\n**Final Answer:**\n\\[\n \\boxed{"
            return f"{text}\n\n...{MARKER}{after}{answer}}}\n\\]"
    return None


DYNASOR = {
    "mild": ({}, ["3} \\]", "4} \\]", *["{2}} \\]"] * 10]),
    "crazy": ({"equal": 2, "every": 32}, ["3} \\]", "3} \\]", "4}"]),
    "doubt": ({"equal": 2, "every": 32}, ["3} now", "3} \\]", "3}. But", "3}", "3}", "4}"]),
    "no box": ({"equal": 2, "every": 32}, ["3", "3", "", "4}"]),
}


@pytest.mark.parametrize(("values", "guesses"), DYNASOR.values(), ids=DYNASOR.keys())
def test_dynasor(values: dict[str, Any], guesses: list[str]) -> None:
    every, equal = values.get("every", 64), values.get("equal", 8)
    chunks = [chr(ord("B") + number) * every for number in range(len(guesses))]
    reasoning = "".join(chunks)
    replay = Replay(use("dynasor", **values), reasoning, lambda number, prompt: Trial([*guesses[number]]))
    assert replay.text() == (authors_dynasor(chunks, guesses, equal) or reasoning)
    assert replay.prompts[:2] == [GUESS, chunks[0] + GUESS]
    probe = use("dynasor").rules[0].do.probe
    assert probe is not None
    assert (probe.tokens, probe.temperature, probe.top_p) == (20, 0.6, 0.95)


# NoThinking


def test_no_thinking_writes_a_reasoning_that_has_ended() -> None:
    (rule,) = compile_policy(use("no-thinking"), TARGET).program.rules
    assert text_of(rule.text) == f"Okay, I think I have finished thinking.\n{MARKER}\n\n"
    assert (rule.at_most, rule.first_position, rule.instead) == (1, 0, False)


@pytest.mark.parametrize("match", ["count"])
def test_the_placebo_of_no_thinking_ends_the_reasoning_after_other_tokens(match: Any) -> None:
    own = compile_policy(use("no-thinking"), TARGET)
    placebo = compile_policy(placebo_of(use("no-thinking"), match), TARGET)
    texts = {seed: placebo.placebo_tokens(seed)[0] for seed in range(3)}
    written = own.program.rules[0].text
    for text in texts.values():
        assert len(text) == len(written)
        assert [token == END_THINK for token in text] == [token == END_THINK for token in written]
        assert not set(text) & (set(written) - {END_THINK})
    assert len({tuple(text) for text in texts.values()}) == 3
    assert np.mean([len(text) for text in texts.values()]) == len(written)


# CGRS

GUESS_BOX = "**Final Answer**\n\\boxed{"


def cgrs_probability(certainty: float, bound: float = 0.9) -> float:
    """The paper's rule, with which the words are left out: max(0, (C - delta) / (1 - delta))."""
    return max(0.0, (certainty - bound) / (1 - bound))


def cgrs_text(certainties: Sequence[float], seed: int) -> tuple[str, list[Node]]:
    """What a model writes that would begin each step with "Wait", and does with "so" where it must not; and the
    tree's nodes."""

    def play(start: ChildStart) -> list[int]:
        text = text_of(start.tokens)
        if start.trial is not None:
            return encode("4}")
        steps = range(text.count("\n\n"), len(certainties) + 1)
        return [*encode("".join(f"1 {'so' if start.sure else 'Wait'} {number}.\n\n" for number in steps)), END]

    def fires(start: ChildStart, position: int) -> bool:
        written = [*start.tokens, *play(start)]
        return start.trial is None and position < len(written) and text_of(written[:position]).endswith("\n\n")

    def entropy(start: ChildStart, position: int) -> float:
        number = text_of(start.tokens).count("\n\n") - 1
        return (1 - certainties[min(number, len(certainties) - 1)]) * math.log(VOCABULARY.size)

    tree = StubTree(
        use("cgrs"), play, forks=fires, entropy=entropy, answers=200, max_running=500, longest=10_000, seed=seed
    )
    nodes = tree.run()
    (chosen,) = (node for node in nodes if node.chosen)
    streamed = [token for output in tree.outputs_sent for choice in output.outputs for token in choice.token_ids]
    assert streamed == chosen.tokens()
    return text_of([token for token in chosen.tokens() if token != END]), nodes


@pytest.mark.parametrize("seed", range(6))
def test_cgrs_where_its_probability_is_nothing_or_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    certainties = [float(random.choice([0.5, 0.89, 0.9 - 1e-6, 1.0])) for _ in range(6)]
    text, nodes = cgrs_text(certainties, seed)
    sure = [cgrs_probability(certainty) == 1 for certainty in certainties]
    said = ["so" if one else "Wait" for one in sure]
    assert text == "".join(f"1 {word} {number}.\n\n" for number, word in enumerate(["Wait", *said]))
    assert [text_of(node.forced_tokens) for node in nodes if node.kind == "probe"][:1] == [GUESS_BOX]
    changes = sum(one != other for one, other in itertools.pairwise([False, *sure]))
    assert sum(node.kind == "answer" for node in nodes) == 1 + changes, "an answer takes over at each change only"


@pytest.mark.parametrize("certainty", [0.91, 0.95, 0.99])
def test_cgrs_leaves_the_words_out_as_often_as_the_paper_says(certainty: float) -> None:
    texts = [cgrs_text([certainty] * 8, seed)[0] for seed in range(50)]
    share = sum(text.count("so") for text in texts) / 400
    expected = cgrs_probability(certainty)
    assert abs(share - expected) <= 4 * (expected * (1 - expected) / 400) ** 0.5
    assert texts[0] == cgrs_text([certainty] * 8, 0)[0], "the request's seed decides"


def test_cgrs_suppresses_four_words_as_they_are_written_where_a_probe_is_sure() -> None:
    compiled = compile_policy(use("cgrs"), TARGET)
    assert compiled.when_sure is not None
    (own,) = (rule for rule in compiled.program.rules if rule.action == Action.MASK)
    (sure,) = (rule for rule in compiled.when_sure.rules if rule.action == Action.MASK)
    assert (own.at_most, sure.at_most) == (0, UNLIMITED)
    written = {VOCABULARY.tokens[token] for token in sure.target.tokens}
    assert {b"Wait", b" Wait", b"But"} <= written
    assert not written & {b"wait", b" wait", b"but", b" but", b"so"}
    assert matches_of(use("cgrs"))[0] == "probability"


def rcpd_stops(ranks: Sequence[int]) -> int | None:
    """The sentence at which arXiv:2508.17627v2, appendix C, stops: saturation, progressive convergence, short-term
    stability, or long-term persistence of the rank."""
    for t in range(len(ranks)):
        back = [ranks[t - k] for k in range(t + 1)]
        saturated = back[0] <= 5
        converging = len(back) > 3 and back[0] <= 10 and back[1] <= 50 and back[2] <= 100 and back[3] <= 1000
        stable = len(back) > 2 and max(back[:3]) <= 20
        persistent = len(back) > 5 and max(back[:6]) <= 50
        if saturated or converging or stable or persistent:
            return t
    return None


RANKS: dict[str, tuple[list[int], int | None]] = {
    "saturation": ([900, 6, 5, 1], 2),
    "convergence": ([1000, 100, 50, 10], 3),
    "convergence is of four sentences": ([100, 50, 10, 300], None),
    "convergence from too far": ([1001, 100, 50, 10], None),
    "three of at most 20": ([2000, 20, 20, 20], 3),
    "two of at most 20": ([2000, 20, 20, 21], None),
    "six of at most 50": ([2000, 50, 50, 50, 50, 50, 50], 6),
    "five of at most 50": ([2000, 50, 50, 50, 50, 50, 51], None),
    "never": ([5000] * 7, None),
}
RANKS |= {
    f"random {seed}": ([int(10 ** np.random.default_rng([seed, n]).uniform(0.75, 3.2)) for n in range(9)], None)
    for seed in range(8)
}
RANKS = {name: (ranks, rcpd_stops(ranks) if "random" in name else stop) for name, (ranks, stop) in RANKS.items()}


@pytest.mark.parametrize(("ranks", "stop"), RANKS.values(), ids=RANKS.keys())
def test_rcpd_stops_by_the_ranks_of_the_end(ranks: list[int], stop: int | None) -> None:
    assert rcpd_stops(ranks) == stop
    sentences = [encode(" so but." if number % 2 else " but so.") for number in range(len(ranks) + 1)]
    ends = list(itertools.accumulate(map(len, sentences)))
    written = [token for sentence in sentences for token in sentence]
    policy = LIBRARY["rcpd"].policy
    fired = fires_at(policy, written)
    assert set(ends[:-1]) <= set(fired)

    def play(start: ChildStart) -> list[int]:
        return [*written, END_THINK, END] if not start.tokens else [END]

    tree = StubTree(
        policy,
        play,
        forks=lambda start, position: not start.tokens and position in fired,
        answers=1,
        longest=len(written) + 9,
        rank=lambda start, position: ranks[ends.index(position)] if position in ends[:-1] else 1,
    )
    nodes = tree.run()
    if stop is None:
        assert len(nodes) == 1
        return
    assert tree.started[1].tokens == [*written[: ends[stop]], END_THINK]
    assert [node.ended for node in nodes] == ["exit", "stop"]


def test_ranks_need_no_trial_answers() -> None:
    ladder: dict[str, Any] = {"end_of_reasoning_ranks": [[5], [20, 20]]}
    for more, right in (
        ({"tokens": 3}, "tokens says nothing with end_of_reasoning_ranks"),
        ({"agreement": 2}, "must hold exactly one|agreement says nothing"),
        ({"end_of_reasoning_ranks": [list(range(1, 10))]}, "9 different ranks; at most 8"),
    ):
        with pytest.raises(InputError, match=right):
            parse_policy({"rules": [{"do": {"probe": ladder | more}}]})
    policy = parse_policy({"rules": [{"do": {"probe": ladder}}]})
    compiled = compile_policy(policy, TARGET)
    assert [rank for rank, _ in compiled.rank_rules] == [5, 20]
    assert compiled.actions == ("probe", "observe", "observe")
    for rank, rule in compiled.rank_rules:
        assert compiled.program.rules[rule].high[Signal.END_RANK] == rank + 1


STEPS: dict[str, tuple[list[list[tuple[float, ...]]], float, int | None]] = {
    # of the 3 likeliest tokens here: a half and two quarters are 1.5 bits, two halves 1 bit, one alone 0
    "the first step that is sure": ([[(0.5, 0.25, 0.25)] * 3, [(0.4, 0.4, 0.0)] * 3, [(0.9, 0.0, 0.0)] * 3], 0.5, 2),
    "at most, not below": ([[(0.5, 0.25, 0.25)] * 3, [(0.4, 0.4, 0.0)] * 3], 1.0, 1),
    "the mean over the step alone": ([[(0.9, 0.0, 0.0)] * 9, [(0.2, 0.1, 0.1)] * 3], 1.4, 0),
    "the mean, not each token": ([[(0.9, 0.0, 0.0), (0.5, 0.25, 0.25), (0.9, 0.0, 0.0)]], 0.5, 0),
    "never": ([[(0.5, 0.25, 0.25)] * 3] * 3, 1.49, None),
}


def step_stops(steps: Sequence[Sequence[tuple[float, ...]]], tau: float) -> int | None:
    """The step after which arXiv:2510.08146v3 stops: p = softmax of the log probabilities of the likeliest tokens,
    H_t = -sum p log2 p, and the mean of H_t over the step is at most tau."""
    for number, step in enumerate(steps):
        entropies = []
        for likely in step:
            exponentials = [math.exp(math.log(one)) for one in likely if one > 0]
            shares = [one / sum(exponentials) for one in exponentials]
            entropies.append(-sum(one * math.log2(one) for one in shares))
        if sum(entropies) / len(entropies) <= tau:
            return number
    return None


@pytest.mark.parametrize(("steps", "tau", "stop"), STEPS.values(), ids=STEPS.keys())
def test_think_just_enough_stops_by_the_entropy_of_a_step(
    steps: list[list[tuple[float, ...]]], tau: float, stop: int | None
) -> None:
    assert step_stops(steps, tau) == stop
    blank = encode("\n\n")
    parts = [[*[A] * (len(step) - len(blank)), *blank] for step in steps]
    written = [token for part in parts for token in part]
    ends = list(itertools.accumulate(map(len, parts)))
    likely = [one for step in steps for one in step]
    policy = LIBRARY["think-just-enough"].use({"bits": tau})
    fired = fires_at(policy, written)
    assert set(ends) <= {*fired, ends[-1]}

    def play(start: ChildStart) -> list[int]:
        return [*written, A, END_THINK, END] if not start.tokens else [END]

    tree = StubTree(
        policy,
        play,
        forks=lambda start, position: not start.tokens and position in ends,
        answers=1,
        longest=len(written) + 9,
        likely_at=lambda position: likely[position] if position < len(likely) else (0.5, 0.3, 0.1),
    )
    nodes = tree.run()
    if stop is None:
        assert len(nodes) == 1
        return
    assert tree.started[1].tokens == [*written[: ends[stop]], END_THINK]
    assert [node.ended for node in nodes] == ["exit", "stop"]


def test_a_further_newline_is_no_step() -> None:
    """It belongs to the step after it."""
    newlines, blank = encode("\n"), encode("\n\n")
    written = [A, *blank, *newlines, A, A, *blank]
    begin = 1 + len(blank)
    sure = range(begin, begin + len(newlines))
    tree = StubTree(
        LIBRARY["think-just-enough"].use({"bits": 0.4}),
        lambda start: [*written, A, END_THINK, END] if not start.tokens else [END],
        forks=lambda start, position: not start.tokens and position in (begin, sure.stop, len(written)),
        answers=1,
        likely_at=lambda position: (0.9, 0.0, 0.0) if position in sure else (0.5, 0.25, 0.25),
    )
    assert len(tree.run()) == 1
