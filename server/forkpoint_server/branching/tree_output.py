"""What vLLM's handlers receive of a tree: one request with its answers as choices, or with the selected one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkpoint_server.vllm_seam import CompletionOutput, RequestOutput, RequestOutputKind, SamplingParams

from .interface import Choice


@dataclass
class TreeOutput:
    """Assembles the outputs of a tree. `choices` are all that have started; the first is the client's own request."""

    request_id: str
    params: SamplingParams
    choices: list[Choice]
    _sent: tuple[int, int] = (0, 0)  # tokens and characters of the one answer that is returned

    def update_of(self, choice: Choice, finished: bool) -> RequestOutput | None:
        """What is new of an answer, as a delta or whole; None if nothing is. `finished`: no other answer runs."""
        delta = self.params.output_kind == RequestOutputKind.DELTA
        output = choice.output.delta(self.params) if delta else choice.output.whole(self.params)
        if output is None or choice.finish_sent:
            return None
        if choice.running:
            output.finish_reason = None  # sent after the answer's last forks were reported
        choice.finish_sent, choice.node.choice = not choice.running, output.index
        return self._request_output([output], finished)

    def settled_update(self, choice: Choice, num_tokens: int) -> RequestOutput | None:
        """What is new of the one answer that will be returned, of which so many tokens are certain; None if nothing
        is."""
        output = choice.output
        output.sent_tokens, output.sent_characters = self._sent
        completion = output.settled_delta(num_tokens, self.params)
        if completion is None:
            return None
        self._sent = output.sent_tokens, output.sent_characters
        completion.index = 0
        return self._request_output([completion], finished=False)

    def final(self, selected: Sequence[Choice]) -> RequestOutput:
        """The selected answers: whole, or what follows the settled tokens that were sent."""
        completions, sends_rest = [], any(self._sent)
        for index, choice in enumerate(selected):
            choice.node.chosen, output = True, choice.output
            if sends_rest:
                output.sent_tokens, output.sent_characters = self._sent
            completion = output.delta(self.params) if sends_rest else output.whole(self.params)
            assert completion is not None
            completion.index, completion.finish_reason = index, completion.finish_reason or "abort"
            choice.node.choice = index
            completions.append(completion)
        return self._request_output(completions, finished=True)

    def _request_output(self, outputs: list[CompletionOutput], finished: bool) -> RequestOutput:
        first, last = self.choices[0].first_output, self.choices[0].last_output
        return RequestOutput(
            request_id=self.request_id,
            prompt=first.prompt if first is not None else None,
            prompt_token_ids=first.prompt_token_ids if first is not None else None,
            prompt_logprobs=first.prompt_logprobs if first is not None else None,
            outputs=outputs,
            finished=finished,
            metrics=last.metrics if last is not None else None,
            lora_request=first.lora_request if first is not None else None,
            num_cached_tokens=first.num_cached_tokens if first is not None else None,
            num_cache_creation_tokens=first.num_cache_creation_tokens if first is not None else None,
            prompt_token_id_logprobs=first.prompt_token_id_logprobs if first is not None else None,
            kv_transfer_params=last.kv_transfer_params if last is not None else None,
            ec_transfer_params=last.ec_transfer_params if last is not None else None,
        )
