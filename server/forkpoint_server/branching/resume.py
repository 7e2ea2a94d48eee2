"""The controller of `resume`: continues after an answer with a text in place of its end, until the budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkpoint_policies.spec import Resume

from .interface import Choice, TreeControl, TrialSampling


@dataclass
class ResumeController:
    """Lets a request think again: until a budget is spent, or a number of times and then a last text."""

    runner: TreeControl
    action: Resume
    returns_one: bool = True
    _current: Choice | None = None
    _num_resumed: int = 0
    _at_final: bool = False

    def start(self) -> None:
        self._current = self.runner.start_root(self.runner.request.seed, max_tokens=self.action.base_tokens)

    def on_fork(self, choice: Choice, position: int) -> None:
        """The rule fires nowhere."""

    def on_tokens(self, choice: Choice) -> None:
        """Only the end matters."""

    def on_end(self, choice: Choice) -> None:
        request, action = self.runner.request, self.action
        if choice is not self._current or self._at_final or not self._goes_on(choice):
            return
        tokens = choice.output.tokens
        if len(self.runner.choices) >= request.max_answers:
            return
        if request.regions.read(tokens, request.region).ends_in_tool_call:
            return  # its arguments are the model's own
        num_end_tokens = int(bool(tokens) and tokens[-1] in request.vocabulary.silent)  # replaced by the text
        written, longest = request.written_tokens, action.tokens
        if longest is None:
            left = action.budget_tokens - choice.node.length - len(written)
            if left <= 0:
                return
            longest = left + num_end_tokens
        elif self._num_resumed == action.times:
            if action.final is None:
                return
            written, longest, self._at_final = request.final_tokens, action.final.tokens, True
        self._num_resumed += 1
        resumed = self.runner.start_child(
            choice,
            choice.node.length - num_end_tokens,
            written,
            max_tokens=longest,
            trial=TrialSampling(longest, tuple(request.params.stop or ())) if self._at_final else None,
            replaces_parent=True,
        )
        self._current = resumed or self._current

    def settled(self) -> tuple[Choice, int]:
        """All but the last token of the last answer that stopped: a further one may replace only that."""
        (last,) = self.select()
        return last, len(last.output.tokens) - 1

    def select(self) -> Sequence[Choice]:
        """The last answer that stopped: after its reasoning, if one did. With a number of times, the last answer."""
        stopped = [choice for choice in self.runner.choices if choice.node.ended == "stop"]
        whole = [choice for choice in stopped if not choice.cut_in_reasoning]
        if self.action.tokens is not None:
            return [self.runner.choices[-1]]
        return [(whole or stopped or self.runner.choices)[-1]]

    def _goes_on(self, choice: Choice) -> bool:
        """Whether the model ended it, or the action's own limit did, rather than a stop string or the request's."""
        if choice.node.ended == "length" and self.action.tokens is not None:
            longest = self.runner.request.params.max_tokens
            return longest is None or choice.node.length < longest
        return choice.node.ended == "stop" and choice.output.stop_reason is None
