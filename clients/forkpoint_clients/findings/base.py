"""What a finding is: data, and one function that tests it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forkpoint_clients.evaluate.stats import Estimate

from .lab import Lab
from .verdict import Claim, Form, Verdict, together


@dataclass(frozen=True)
class Figure:
    """One thing that was measured; a 95 % interval clustered by question, unless `what` says otherwise."""

    what: str
    estimate: Estimate
    form: Form


@dataclass(frozen=True)
class Table:
    """Rows of figures. The first column tells what each is of."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """An SVG element as `plots.svg` writes it."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Result:
    """What a model shows. `notes` are sentences that a reader of the verdict must know."""

    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return together([claim.verdict for claim in self.claims if claim.headline])


@dataclass(frozen=True)
class Finding:
    """`claim` is what was published, `source` where, `protocol` what is asked here and how it is compared."""

    name: str
    question: str
    claim: str
    source: str
    protocol: str
    retest: Callable[[Lab], Awaitable[Result]]
