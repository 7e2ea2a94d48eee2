"""Policies on vLLM's offline `LLM`, in one's own process: no server, no trees and no reports."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import key_of
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS, InputError, Policy
from forkpoint_policies.worker.last_layer import EXTENSION
from forkpoint_policies.worker.payload import PolicyPayload

from .calibration.profile import read_own_profile
from .calibration.token_frequencies import read_token_frequencies
from .cli import PROCESSORS
from .engine.derived_params import derived_params
from .engine.hidden_states import READ_STATES, first_problem, unreadable
from .engine.payload import PROMPT_TAIL, signed_seed
from .policies.eligibility import tree_action_of
from .policies.registry import Registry
from .policies.resolve import read_policy_field
from .policies.served_model import read_served_model
from .policies.text_regions import ParserNames
from .structured_outputs.request import ban_words
from .vllm_seam import LLM, AsyncEngineArgs, EngineClient, SamplingParams, UsageContext

_handles = itertools.count(1)


def open_llm(model: str, **options: Any) -> LLM:
    """A vLLM `LLM`, with the logits processor that applies policies. `options` are those of `LLM`."""
    config = AsyncEngineArgs(model=model, **options).create_engine_config(usage_context=UsageContext.LLM_CLASS)
    processors = [*(options.pop("logits_processors", None) or []), PROCESSORS[config.use_v2_model_runner]]
    options["worker_extension_cls"] = options.get("worker_extension_cls") or EXTENSION
    return LLM(model=model, logits_processors=processors, **options)


@dataclass
class OfflinePolicies:
    """Compiles policies for the model of an `LLM` that `open_llm` returned.

    `reasoning_parser` names vLLM's parser of the model's reasoning, for rules with a region. `fork_threshold` is in
    nats; by default that of the calibration in the model's folder, or else another model's.
    """

    llm: LLM
    reasoning_parser: str | None = None
    fork_threshold: float | None = None
    registry: Registry = field(default_factory=Registry)
    _model: ServedModel = field(init=False)

    def __post_init__(self) -> None:
        engine = cast(EngineClient, self.llm.llm_engine)  # has the attributes that are read
        folder = Path(engine.model_config.model)
        own, parsers = read_own_profile(folder), ParserNames(self.reasoning_parser, None)
        if self.fork_threshold is None:
            self.fork_threshold = DEFAULT_FORK_THRESHOLD_NATS if own is None else own.fork_threshold
        mean = None if own is None else own.mean_reasoning_tokens
        model = read_served_model(engine, parsers, read_token_frequencies(folder), self.fork_threshold, mean)
        problem = unreadable(self.llm.llm_engine.vllm_config) or first_problem(self.llm.collective_rpc(READ_STATES))
        self._model = replace(model, states_unreadable=problem)

    def params(
        self, policy: str | dict[str, Any] | Policy, prompts: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[SamplingParams]:
        """The sampling parameters of each of these prompts of tokens, under a policy: pass both to `llm.generate`.

        With a `seed`, a prompt gets the answer that the server gives it. The policy is a name, an object as in a
        request's body, or a Policy. Raises InputError for one that branches, for more choices than one, and for a
        policy that the model cannot express; VLLMValidationError for structured outputs that vLLM rejects, or that
        allow only texts with a word that the policy bans.
        """
        own = policy if isinstance(policy, Policy) else _read(policy, self.registry)
        if tree_action_of(own) is not None:
            raise InputError("policy", "branches, which needs the server's requests; run `forkpoint serve`")
        if params.n > 1:
            raise InputError(
                "n", f"is {params.n}; offline, pass the prompt once for each choice, with seeds of its own"
            )
        compiled = compile_policy(own, self._model)
        params = params.clone()
        ban_words(params, own, self._model, cast(EngineClient, self.llm.llm_engine), by_request=True)
        packed = compiled.program.pack()
        key = key_of(packed)
        found = []
        for prompt in prompts:
            seed = secrets.randbits(62) if params.seed is None else signed_seed(params.seed)
            word_state, _ = compiled.program.follow(list(prompt[-PROMPT_TAIL:]))
            payload = PolicyPayload(
                program=packed,
                key=key,
                handle=next(_handles),  # the worker tells requests apart by it
                address="",
                word_state=word_state,
                region=self._model.answer_start(prompt).region,
                seed=seed,
                sampled=compiled.placebo_tokens(seed),
            )
            found.append(derived_params(params, extra_args=payload.into(params.extra_args)))
        return found


def _read(policy: str | dict[str, Any], registry: Registry) -> Policy:
    labeled = read_policy_field(policy, registry)
    if labeled is None:
        raise InputError("policy", "is `none`; generate without parameters of a policy instead")
    return labeled.policy
