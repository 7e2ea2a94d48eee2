"""One compilation: the served model, and what its rules add on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from forkpoint_policies.placebo import PlaceboSampler

from .compiled_policy import Insertion
from .served_model import ServedModel
from .token_sets import TokenSets
from .word_automaton import Automaton, NamedWord


@dataclass
class Compilation:
    """What the rules of one policy have in common, and what they add: see CompiledPolicy.

    `marker` is the end of the reasoning where a rule replaces it and it is several tokens.
    """

    target: ServedModel
    automaton: Automaton
    marker: NamedWord | None = None
    warnings: list[str] = field(default_factory=list)
    placebo_samplers: list[PlaceboSampler] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    written_instead: PlaceboSampler | None = None
    final: list[int] = field(default_factory=list)
    trial: Insertion = field(default_factory=Insertion)
    ending: Insertion = field(default_factory=Insertion)
    readouts: list[str] = field(default_factory=list)

    @cached_property
    def sets(self) -> TokenSets:
        """The token sets of the policy's words."""
        return TokenSets(self.target, self.automaton, self.warnings)
