"""The controller of `resume`: goes on after the answer with a text in place of its end, until the budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkpoint_policies.spec import Resume

from .runner import Grown, TreeRunner


@dataclass
class ResumeController:
    """Lets a request think again, as a `resume` says."""

    growth: TreeRunner
    resume: Resume
    together: bool = True

    def begin(self) -> None:
        self._current = self.growth.begin_root(self.growth.seed)
        self._text = self.growth.intervention.compiled.written_tokens(self.growth.seed)

    def reached(self, grown: Grown, position: int) -> None:
        """The rule fires nowhere."""

    def advanced(self, grown: Grown) -> None:
        """Only the end matters."""

    def ended(self, grown: Grown) -> None:
        length = grown.node.length
        spent = (
            length + len(self._text) >= self.resume.budget_tokens
            or len(self.growth.grown) >= self.growth.limits.answers
        )
        by_itself = grown.node.ended == "stop" and grown.answer.stop_reason is None
        if grown is not self._current or not by_itself or spent:
            return
        tokens, silent = grown.answer.tokens, self.growth.intervention.model.vocabulary.silent
        ends = bool(tokens) and tokens[-1] in silent
        resumed = self.growth.begin(
            grown,
            length - ends,
            self._text,
            most_tokens=self.resume.budget_tokens - length - len(self._text) + ends,
            replaces=True,
        )
        self._current = resumed or self._current

    def certain(self) -> tuple[Grown, int]:
        """All but the end of an answer that has ended by itself; of what comes after it, nothing before it has ended so too."""
        whole = [grown for grown in self.growth.grown if grown.node.ended == "stop"]
        shown = (whole or self.growth.grown)[-1]
        return shown, len(shown.answer.tokens) - 1

    def chosen(self) -> Sequence[Grown]:
        """The last answer that has ended by itself."""
        whole = [grown for grown in self.growth.grown if grown.node.ended == "stop"]
        return [(whole or self.growth.grown)[-1]]
