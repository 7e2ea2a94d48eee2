"""The served model as a policy sees it: its vocabulary, its regions and its fork threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.connectors import FAMILIES

from .program import NO_TOKEN
from .regions import UNMARKED, Regions
from .vocabulary import Vocabulary, is_marker_like
from .word_automaton import build_automaton

DEFAULT_REASONING_TOKENS = 1000
"""The mean length of a model's reasoning, where it was not measured."""


class AnswerStart(NamedTuple):
    """The state of the regions in which an answer starts, and the one from which vLLM counts its reasoning tokens."""

    region: int
    counted: int


@dataclass(frozen=True)
class ServedModel:
    """What a policy is compiled for. `fork_threshold` is in nats.

    `start_of` says in which state of the regions an answer to a prompt starts, from the prompt's tokens and what vLLM's
    handler tells the reasoning parser of the request; and in which state vLLM starts to count reasoning tokens.
    `encode` turns text into tokens. `frequencies` are the shares of tokens in the model's own text, empty if it was not
    calibrated; `mean_reasoning_tokens` is the mean length of its reasoning, None if not measured; `connectors` are the
    tokens of every connector family. `states_unreadable` says why the last layer's hidden states cannot be read; it is
    empty where they can. `artefacts` are the vectors and readouts that policies can name; vectors can be added at the
    `hidden_layers`, and the `recycle_layers` can be run again. `speculates`: it has draft tokens.
    """

    vocabulary: Vocabulary
    fork_threshold: float
    regions: Regions = UNMARKED
    start_of: Callable[[Sequence[int], Mapping[str, Any] | None], AnswerStart] | None = None
    stop: int = NO_TOKEN
    encode: Callable[[str], list[int]] | None = None
    frequencies: Mapping[int, float] = field(default_factory=dict, hash=False, compare=False)
    mean_reasoning_tokens: float | None = None
    states_unreadable: str = ""
    artefacts: Mapping[str, Artefact] = field(default_factory=dict, hash=False, compare=False)
    hidden_layers: tuple[int, ...] = ()
    recycle_layers: tuple[int, ...] = ()
    speculates: bool = False

    @property
    def reasoning_end(self) -> int:
        """The token that ends the reasoning: the first of its marker, NO_TOKEN where others begin with that too."""
        end = self.regions.reasoning_end
        if not end or (len(end) > 1 and not is_marker_like(self.vocabulary.tokens[end[0]])):
            return NO_TOKEN
        return end[0]

    def answer_start(self, prompt: Sequence[int], parser_options: Mapping[str, Any] | None = None) -> AnswerStart:
        """Where an answer to this prompt starts; `parser_options` are those of the request's reasoning parser."""
        if self.start_of is not None:
            return self.start_of(prompt, parser_options)
        state = self.regions.follow(prompt, self.regions.start)
        return AnswerStart(state, state)

    @cached_property
    def connectors(self) -> frozenset[int]:
        """Every token that is, or completes, a connector."""
        found: set[int] = set()
        for word in {word for words in FAMILIES.values() for word in words}:
            try:
                found.update(token for _, token in build_automaton((word,), self.vocabulary).completions[word])
            except InputError:
                continue  # this tokenizer cannot write the word
        return frozenset(found)
