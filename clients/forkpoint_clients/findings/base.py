"""The types of a finding: data, and one function that retests it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forkpoint_clients.evaluate.stats import Estimate

from .lab import Lab
from .verdict import Claim, Form, Verdict, combined


@dataclass(frozen=True)
class Figure:
    """One measured figure with a 95 % interval clustered by question, unless `what` says otherwise."""

    what: str
    estimate: Estimate
    form: Form


@dataclass(frozen=True)
class Table:
    """Rows of figures; the first column names what each row is about."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A plot: an SVG element as `plot_style.svg` returns it."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Result:
    """The result of a retest. `notes` are sentences that the reader of the verdict must know."""

    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return combined([claim.verdict for claim in self.claims if claim.headline])


@dataclass(frozen=True)
class Finding:
    """A published finding: its `claim` and `source`, and the `protocol` by which `retest` requests and compares
    answers.
    """

    name: str
    question: str
    claim: str
    source: str
    protocol: str
    retest: Callable[[Lab], Awaitable[Result]]
