"""Programs on the device: padded tensors from which the rows of a batch are gathered when the batch changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program

from .device_lookups import (
    Marks,
    Moves,
    ProgramMoves,
    RegionMoves,
    build_marks,
    build_moves,
    build_regions,
    join_marks,
    join_moves,
)
from .device_rules import Rules, build_rules, join_rules
from .program_uses import Facts, Uses


@dataclass(frozen=True)
class ProgramTables:
    """One program, ready for the device: built once, and joined with others by offset for each set of programs.

    The keys are those of Moves and Marks for a program of index 0; None where the program names no words.
    """

    facts: Facts
    rules: Rules  # of one program
    moves: ProgramMoves | None
    mark_keys: Tensor | None  # [E] int64, sorted

    @cached_property
    def size_bytes(self) -> int:
        """What the tensors take on the device."""
        marks = 0 if self.mark_keys is None else self.mark_keys.nbytes
        return marks + _size_bytes(self.rules, self.moves)


@dataclass(frozen=True)
class Tables:
    """Some programs, ready for the device."""

    programs: tuple[Program, ...]
    facts: tuple[Facts, ...]
    rules: Rules
    regions: RegionMoves | None
    moves: Moves | None
    marks: Marks | None
    uses: Uses

    @cached_property
    def size_bytes(self) -> int:
        """What the tensors take on the device."""
        return _size_bytes(self.rules, self.regions, self.moves, self.marks)


def build_tables(programs: Sequence[Program], vocabulary: int, device: torch.device) -> Tables:
    """The tables of some programs, built from nothing."""
    return join_tables(programs, [build_program_tables(one, vocabulary, device) for one in programs], vocabulary)


def build_program_tables(program: Program, vocabulary: int, device: torch.device) -> ProgramTables:
    """The tables of one program; each set of tokens is padded to a multiple of SET_CHUNK."""
    return ProgramTables(
        Facts.of(program),
        build_rules([program], device),
        build_moves(program, vocabulary, device),
        build_marks(program, vocabulary, device),
    )


def join_tables(programs: Sequence[Program], parts: Sequence[ProgramTables], vocabulary: int) -> Tables:
    """The tables of a set of programs: theirs side by side, padded to the largest, the keys moved by an offset."""
    return Tables(
        tuple(programs),
        tuple(part.facts for part in parts),
        join_rules([part.rules for part in parts]),
        build_regions(programs, vocabulary, parts[0].rules.region.device),
        join_moves([part.moves for part in parts], vocabulary),
        join_marks([part.mark_keys for part in parts], max(len(part.rules.region[0]) for part in parts), vocabulary),
        Uses.of(programs),
    )


def _size_bytes(*parts: Rules | RegionMoves | ProgramMoves | Moves | Marks | None) -> int:
    tensors = (one for part in parts if part is not None for one in vars(part).values())
    return sum(one.nbytes for one in tensors if isinstance(one, Tensor))
