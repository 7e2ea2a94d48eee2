"""A compiled policy: its program, and all that its requests need on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from forkpoint_policies.placebo import PlaceboSampler
from forkpoint_policies.spec import ANSWER, Policy

from .program import Action, Program, key_of

OBJECT_BYTES, BYTES_PER_WRITTEN, BYTES_PER_PACKED = 8_000, 8, 15
"""The memory of a compiled policy: without its contents, per byte of its JSON, and per byte of its packed program."""


@dataclass(frozen=True)
class Insertion:
    """What a probe writes into an answer: a text, the tokens of the end `marker` where it is written, and a text
    `after` it."""

    before: str = ""
    before_tokens: tuple[int, ...] = ()
    marker: tuple[int, ...] = ()
    after: str = ""
    after_tokens: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.before_tokens, *self.marker, *self.after_tokens)

    def following(self, kept: str, encode: Callable[[str], list[int]] | None, answer: str | None = None) -> list[int]:
        """The tokens after the text `kept`, what is left of tokens that were dropped; `answer` stands for `{answer}`.

        Both are encoded with the text beside them, as the tokenizer would have.
        """
        before: list[int] = list(self.before_tokens)
        after: list[int] = list(self.after_tokens)
        if kept and encode is not None:
            before = encode(kept + self.before)
        if ANSWER in self.after and encode is not None:
            after = encode(self.after.replace(ANSWER, answer or ""))
        return [*before, *self.marker, *after]


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy as a program for the served model, with all that its requests need.

    `warnings` are for the policy's author. `placebo_samplers` sample, for each request, the tokens that replace a
    rule's own. `written` are the tokens with which further requests of a resumption start; those of its placebo are
    sampled by `written_instead`, and `final` are those of its last text. A probe writes `trial` before its trial
    answers, and `ending` where it ends the reasoning. `program` acts as if no probe had been sure, `when_sure` as where
    one was. `label` is the policy's name in metrics; `none` for requests that are only observed.
    `readouts` are the names of those that it depends on.
    """

    policy: Policy
    program: Program
    warnings: tuple[str, ...] = ()
    placebo_samplers: tuple[PlaceboSampler, ...] = ()
    written: tuple[int, ...] = ()
    written_instead: PlaceboSampler | None = None
    trial: Insertion = Insertion()
    ending: Insertion = Insertion()
    when_sure: Program | None = None
    final: tuple[int, ...] = ()
    rank_rules: tuple[tuple[int, int], ...] = ()
    label: str = "none"
    readouts: tuple[str, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether a policy applies, rather than only observation."""
        return self.label != "none"

    @cached_property
    def packed(self) -> bytes:
        """The program as it is sent to the worker."""
        return self.program.pack()

    @cached_property
    def key(self) -> str:
        """The program's name in the worker."""
        return key_of(self.packed)

    @cached_property
    def packed_when_sure(self) -> bytes:
        """As `packed`, of `when_sure`."""
        return self.packed if self.when_sure is None else self.when_sure.pack()

    @cached_property
    def key_when_sure(self) -> str:
        return key_of(self.packed_when_sure)

    @cached_property
    def num_bytes(self) -> int:
        """The memory that CPython takes for the policy and its program, rounded up."""
        written = len(self.policy.model_dump_json(exclude_unset=True))
        programs = 1 if self.when_sure is None else 2
        return OBJECT_BYTES + BYTES_PER_WRITTEN * written + programs * BYTES_PER_PACKED * len(self.packed)

    @cached_property
    def digest(self) -> str:
        """The policy's digest, with those of its vectors and readouts; computed once, as responses quote it."""
        own = self.policy.digest
        vectors = [rule.vector for rule in self.program.rules if rule.vector]
        artefacts = [*vectors, *self.program.readouts]
        return sha256("\n".join((own, *artefacts)).encode()).hexdigest()[: len(own)] if artefacts else own

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """The action of each compiled rule, by the name that the user wrote."""
        written = (self.policy.rules[rule.number] for rule in self.program.rules)
        return tuple(
            "observe" if rule.action == Action.OBSERVE and source.tree_action is not None else source.do.action
            for rule, source in zip(self.program.rules, written, strict=True)
        )

    def placebo_tokens(self, seed: int) -> dict[int, list[int]]:
        """The tokens that replace those of a rule (by its index in the program) in a request with this seed."""
        return {sampler.rule: sampler.tokens(seed) for sampler in self.placebo_samplers}

    def written_tokens(self, seed: int) -> list[int]:
        """The tokens with which further requests of a request with this seed start."""
        return list(self.written) if self.written_instead is None else self.written_instead.tokens(seed)
