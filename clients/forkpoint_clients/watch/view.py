"""What `forkpoint watch` shows: tables of what has been counted."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forkpoint_clients.evaluate.formatting import UNKNOWN, plain

from .counters import Change, Window

BARS = "▁▂▃▄▅▆▇█"
ROLES = ("planning", "execution")
ENTROPY = "forkpoint_token_entropy_nats"
TOKENS = "forkpoint_tokens_total"
MAX_ROWS = 12
"""Of a table, so that a screen holds all of them; those with the most tokens or requests come first."""


def show(window: Window, change: Change, server: str) -> RenderableType:
    """All of it, for a window of looks that ends with this change."""
    parts: list[RenderableType] = [_summary(window, change, server), _policies(change)]
    if change.is_now("forkpoint_branches_total"):
        parts.append(_branches(change))
    if change.has("forkpoint_experiment_requests_total"):
        parts.append(_arms(change))
    return Group(*parts)


def unreachable(server: str, why: str, seconds: float) -> RenderableType:
    """What is shown while the server does not answer."""
    text = f"{server} has not answered for {seconds:.0f} s: {why}\nTrying again until it does; Ctrl-C ends."
    return Panel(Text(text), title="no answer", border_style="red")


def _summary(window: Window, change: Change, server: str) -> Panel:
    """What the whole server does: requests, forks, entropies."""
    versions = [change.values("forkpoint_build_info", label) for label in ("version", "vllm")]
    forkpoint, vllm = (" ".join(values) or UNKNOWN for values in versions)
    planning, execution = (change.rate(TOKENS, role=role) for role in ROLES)
    step = change.mean("forkpoint_step_seconds")
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        "requests",
        f"{change.rate('forkpoint_requests_total'):.1f} choices/s",
        f"{change.is_now('vllm:num_requests_running'):.0f} running, {change.is_now('vllm:num_requests_waiting'):.0f} waiting",
    )
    grid.add_row(
        "forks",
        f"{planning:.0f} /s",
        f"of {planning + execution:.0f} tokens/s observed ({_share(planning, execution)})",
    )
    for role in ROLES:
        along = window.along(lambda one, role=role: one.mean(ENTROPY, role=role))  # type: ignore[misc]
        grid.add_row(f"entropy, {role}", f"{plain(change.mean(ENTROPY, role=role), 3)} nats", sparkline(along))
    grid.add_row("kernel", UNKNOWN if step is None else f"{1000 * step:.2f} ms a step", _lost(change))
    title = f"{server}  forkpoint {forkpoint}, vLLM {vllm}"
    return Panel(
        grid, title=Text(title), subtitle=f"over {change.seconds:.0f} s", title_align="left", subtitle_align="right"
    )


def _lost(change: Change) -> Text:
    dropped = change.is_now("forkpoint_telemetry_dropped_total")
    return Text(f"{dropped:.0f} records lost since the start", style="red" if dropped else "dim")


def _policies(change: Change) -> Table:
    table = _table(
        "policy", "choices\n/s", "tokens\n/s", "forks", "entropy:\nfork, rest", "fired\n/1k", "changed\n/1k",
        "connec-\ntors/1k", "reason-\ning",
    )  # fmt: skip
    named = set(change.values("forkpoint_requests_total", "policy")) | set(change.values(TOKENS, "policy"))
    for policy in sorted(named, key=lambda one: -change.is_now("forkpoint_requests_total", policy=one))[:MAX_ROWS]:
        planning, execution = (change.rate(TOKENS, policy=policy, role=role) for role in ROLES)
        thousands = change.counted(TOKENS, policy=policy) / 1000
        per = (
            change.counted(name, policy=policy) / thousands if thousands else None
            for name in (
                "forkpoint_interventions_total",
                "forkpoint_intervention_effect_total",
                "forkpoint_connectors_total",
            )
        )
        table.add_row(
            Text(policy),
            f"{change.rate('forkpoint_requests_total', policy=policy):.1f}",
            f"{planning + execution:.0f}" if planning + execution else UNKNOWN,
            _share(planning, execution),
            ", ".join(plain(change.mean(ENTROPY, policy=policy, role=role), 2) for role in ROLES),
            *(plain(one) for one in per),
            plain(change.mean("forkpoint_reasoning_tokens", policy=policy), 0),
        )
    return table


def _branches(change: Change) -> Table:
    outcomes = change.values("forkpoint_branches_total", "outcome")
    table = _table("branching policy", "branches\n/s", "tokens\nshared /s", *(f"{one}\nso far" for one in outcomes))
    for policy in change.values("forkpoint_branches_total", "policy")[:MAX_ROWS]:
        table.add_row(
            Text(policy),
            f"{change.rate('forkpoint_branches_total', policy=policy):.1f}",
            f"{change.rate('forkpoint_branch_shared_tokens_total', policy=policy):.0f}",
            *(f"{change.is_now('forkpoint_branches_total', policy=policy, outcome=one):.0f}" for one in outcomes),
        )
    return table


def _arms(change: Change) -> Table:
    table = _table("experiment", "arm", "requests\n/s", "requests\nso far", "outcomes posted here,\nmean (number)")
    requests, outcomes = "forkpoint_experiment_requests_total", "forkpoint_experiment_outcome"
    for experiment in change.values(requests, "experiment")[:MAX_ROWS]:
        for arm in change.values(requests, "arm", experiment=experiment):
            here = {"experiment": experiment, "arm": arm}
            told = []
            for metric in change.values(f"{outcomes}_count", "metric", **here):
                number, total = (
                    change.is_now(f"{outcomes}_{part}", metric=metric, **here) for part in ("count", "sum")
                )
                told.append(f"{metric} {plain(total / number if number else None, 3)} ({number:.0f})")
            table.add_row(
                Text(experiment), Text(arm), f"{change.rate(requests, **here):.1f}", f"{change.is_now(requests, **here):.0f}",
                Text(", ".join(told)),
            )  # fmt: skip
    return table


def sparkline(values: Sequence[float | None]) -> str:
    """One bar a value, from the least to the greatest; a blank where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    return "".join(
        " " if one is None else BARS[round((len(BARS) - 1) * (one - low) / span) if span else 0] for one in values
    )


def _share(planning: float, execution: float) -> str:
    return f"{100 * planning / (planning + execution):.0f} %" if planning + execution else UNKNOWN


def _table(*headings: str) -> Table:
    """As wide as the screen; on one of 80 columns only a blank parts the figures."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=0)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    return table
