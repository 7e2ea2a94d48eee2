"""Where the rules of a shadow policy that replace tokens fired: at those of their positions where one was sampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import Program, Walk
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.compile.word_automaton import ANY_STATE


class ReplacedTokens:
    """Which tokens of a choice a policy's rules would have replaced, read as the tokens arrive.

    Where such a rule acts, the kernel samples whether one of its tokens would be sampled, and the rule fires if so. In
    shadow the token itself shows that, once it is there: the worker's record only says that the conditions held.
    """

    def __init__(self, program: Program, word_state: int) -> None:
        self._walk, self._word_state = Walk.of(program), word_state
        self._sets = {
            index: frozenset(zip(rule.target.states, rule.target.tokens, strict=True))
            for index, rule in enumerate(program.rules)
            if program.fires_by_token(rule)
        }
        self._met: dict[int, list[bool]] = {index: [] for index in self._sets}
        self._length = 0

    @staticmethod
    def of(program: Program, word_state: int) -> ReplacedTokens | None:
        """Those of a choice that starts in this state of the word automaton; None if no rule depends on them."""
        return ReplacedTokens(program, word_state) if any(map(program.fires_by_token, program.rules)) else None

    def confirm(self, fired: NDArray[np.bool_], tokens: Sequence[int], at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`fired` [n, rules] of the records at places `at` [n] of the choice's tokens, where the tokens confirm it."""
        for token in tokens[self._length :]:
            for index, members in self._sets.items():
                self._met[index].append((self._word_state, token) in members or (ANY_STATE, token) in members)
            self._word_state, _ = self._walk.step(token, self._word_state, Region.REASONING)
            self._length += 1
        confirmed = fired.copy()
        for index, met in self._met.items() if len(at) else ():
            confirmed[:, index] &= np.array(met, np.bool_)[at]
        return confirmed
