"""The controller of `resume`: continues after an answer with a text in place of its end, until the budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkpoint_policies.spec import Resume

from .interface import Choice, TreeControl


@dataclass
class ResumeController:
    """Lets a request think again."""

    runner: TreeControl
    action: Resume
    returns_one: bool = True
    _current: Choice | None = None

    def start(self) -> None:
        self._current = self.runner.start_root(self.runner.request.seed)

    def on_fork(self, choice: Choice, position: int) -> None:
        """The rule fires nowhere."""

    def on_tokens(self, choice: Choice) -> None:
        """Only the end matters."""

    def on_end(self, choice: Choice) -> None:
        if choice is not self._current or not _ended_on_its_own(choice):
            return
        request, length = self.runner.request, choice.node.length
        left = self.action.budget_tokens - length - len(request.written_tokens)
        tokens = choice.output.tokens
        if left <= 0 or len(self.runner.choices) >= request.max_answers:
            return
        if request.regions.read(tokens, request.region).ends_in_tool_call:
            return  # its arguments are the model's own
        num_end_tokens = int(bool(tokens) and tokens[-1] in request.vocabulary.silent)  # replaced by the text
        resumed = self.runner.start_child(
            choice,
            length - num_end_tokens,
            request.written_tokens,
            max_tokens=left + num_end_tokens,
            replaces_parent=True,
        )
        self._current = resumed or self._current

    def settled(self) -> tuple[Choice, int]:
        """All but the last token of the last answer that stopped: a further one may replace only that."""
        (last,) = self.select()
        return last, len(last.output.tokens) - 1

    def select(self) -> Sequence[Choice]:
        """The last answer that stopped: after its reasoning, if one did."""
        stopped = [choice for choice in self.runner.choices if choice.node.ended == "stop"]
        whole = [choice for choice in stopped if not choice.cut_in_reasoning]
        return [(whole or stopped or self.runner.choices)[-1]]


def _ended_on_its_own(choice: Choice) -> bool:
    """Whether the model ended it, rather than a stop string or a limit."""
    return choice.node.ended == "stop" and choice.output.stop_reason is None
