"""Renders what `forkpoint watch` shows: tables of rates, means and counts."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forkpoint_clients.evaluate.formatting import UNKNOWN, plain

from .counters import ScrapeDelta, ScrapeWindow

BARS = "▁▂▃▄▅▆▇█"
ROLES = ("planning", "execution")
ENTROPY = "forkpoint_token_entropy_nats"
TOKENS = "forkpoint_tokens_total"
PER_THOUSAND = {
    "fired": "forkpoint_interventions_total",
    "changed": "forkpoint_intervention_effect_total",
    "connectors": "forkpoint_connectors_total",
}
"""The counters that are shown per 1,000 tokens."""
MAX_ROWS = 12
"""The most rows of a table, so that all tables fit on a screen."""


def show(window: ScrapeWindow, delta: ScrapeDelta, server: str) -> RenderableType:
    """The whole view, for a window of scrapes that ends with this delta."""
    parts: list[RenderableType] = [_summary(window, delta, server), _policies(delta)]
    if idle := idle_policies(delta):
        parts.append(Text(f"idle: {', '.join(idle)}", style="dim"))
    return Group(*parts, *_details(delta))


def tables(window: ScrapeWindow, delta: ScrapeDelta, server: str) -> list[Table]:
    """The same as `show`, as tables alone."""
    summary = _grid(window, delta)
    summary.title = f"{_title(delta, server)}, over {delta.seconds:.0f} s"
    return [summary, _policies(delta), *_details(delta)]


def records(delta: ScrapeDelta) -> list[dict[str, float | str | None]]:
    """A record for each policy that was active between the scrapes. Rates are per second."""
    return [
        {
            "policy": policy,
            "choices_per_second": delta.rate("forkpoint_requests_total", policy=policy),
            "tokens_per_second": sum(delta.rate(TOKENS, policy=policy, role=role) for role in ROLES),
            "forks_per_second": delta.rate(TOKENS, policy=policy, role=ROLES[0]),
            "mean_reasoning_tokens": delta.mean("forkpoint_reasoning_tokens", policy=policy),
            **{f"{role}_entropy_nats": delta.mean(ENTROPY, policy=policy, role=role) for role in ROLES},
            **{
                f"{name}_per_1000_tokens": _per_thousand(delta, counter, policy)
                for name, counter in PER_THOUSAND.items()
            },
        }
        for policy in _active(delta)
    ]


def idle_policies(delta: ScrapeDelta) -> list[str]:
    """The policies that did nothing between the scrapes."""
    active = _active(delta)
    return [policy for policy in _by_requests(delta) if policy not in active]


def _details(delta: ScrapeDelta) -> list[Table]:
    """Tables of what only some servers do: branches and experiments."""
    branches = [_branches(delta)] if delta.current("forkpoint_branches_total") else []
    return branches + ([_arms(delta)] if delta.has("forkpoint_experiment_requests_total") else [])


def _by_requests(delta: ScrapeDelta) -> list[str]:
    named = set(delta.values("forkpoint_requests_total", "policy")) | set(delta.values(TOKENS, "policy"))
    return sorted(named, key=lambda policy: (-delta.current("forkpoint_requests_total", policy=policy), policy))


def _active(delta: ScrapeDelta) -> list[str]:
    return [
        policy
        for policy in _by_requests(delta)
        if delta.increase("forkpoint_requests_total", policy=policy) or delta.increase(TOKENS, policy=policy)
    ]


def _per_thousand(delta: ScrapeDelta, counter: str, policy: str) -> float | None:
    """Events per 1,000 tokens of a policy; None without tokens."""
    thousands = delta.increase(TOKENS, policy=policy) / 1000
    return delta.increase(counter, policy=policy) / thousands if thousands else None


def unreachable(server: str, why: str, seconds: float) -> RenderableType:
    """The view while the server does not answer."""
    text = f"{server} has not answered for {seconds:.0f} s: {why}\nTrying again until it does; Ctrl-C ends."
    return Panel(Text(text), title="no answer", border_style="red")


def _summary(window: ScrapeWindow, delta: ScrapeDelta, server: str) -> Panel:
    """The whole server: requests, forks, entropies."""
    return Panel(
        _grid(window, delta), title=Text(_title(delta, server)), subtitle=f"over {delta.seconds:.0f} s",
        title_align="left", subtitle_align="right",
    )  # fmt: skip


def _title(delta: ScrapeDelta, server: str) -> str:
    versions = [delta.values("forkpoint_build_info", label) for label in ("version", "vllm")]
    forkpoint, vllm = (" ".join(values) or UNKNOWN for values in versions)
    return f"{server}  forkpoint {forkpoint}, vLLM {vllm}"


def _grid(window: ScrapeWindow, delta: ScrapeDelta) -> Table:
    planning, execution = (delta.rate(TOKENS, role=role) for role in ROLES)
    step = delta.mean("forkpoint_step_seconds")
    grid = Table.grid("", "", "", padding=(0, 2))
    grid.add_row(
        "requests",
        f"{delta.rate('forkpoint_requests_total'):.1f} choices/s",
        (
            f"{delta.current('vllm:num_requests_running'):.0f} running, "
            f"{delta.current('vllm:num_requests_waiting'):.0f} waiting"
        ),
    )
    grid.add_row(
        "forks",
        f"{planning:.0f} /s",
        f"of {planning + execution:.0f} tokens/s observed ({_share(planning, execution)})",
    )
    for role in ROLES:
        along = window.along(lambda between, role=role: between.mean(ENTROPY, role=role))  # type: ignore[misc]
        grid.add_row(f"entropy, {role}", f"{plain(delta.mean(ENTROPY, role=role), 3)} nats", sparkline(along))
    grid.add_row("kernel", UNKNOWN if step is None else f"{1000 * step:.2f} ms a step", _lost(delta))
    return grid


def _lost(delta: ScrapeDelta) -> Text:
    dropped = delta.current("forkpoint_telemetry_dropped_total")
    return Text(f"{dropped:.0f} records lost since the start", style="red" if dropped else "dim")


def _policies(delta: ScrapeDelta) -> Table:
    table = _table(
        "policy", "choices\n/s", "tokens\n/s", "forks", "entropy:\nfork, rest", "fired\n/1k", "changed\n/1k",
        "words\n/1k", "think\ntokens",
    )  # fmt: skip
    for policy in _active(delta)[:MAX_ROWS]:
        planning, execution = (delta.rate(TOKENS, policy=policy, role=role) for role in ROLES)
        per = (_per_thousand(delta, counter, policy) for counter in PER_THOUSAND.values())
        table.add_row(
            Text(policy),
            f"{delta.rate('forkpoint_requests_total', policy=policy):.1f}",
            f"{planning + execution:.0f}" if planning + execution else UNKNOWN,
            _share(planning, execution),
            ", ".join(plain(delta.mean(ENTROPY, policy=policy, role=role), 2) for role in ROLES),
            *(plain(rate) for rate in per),
            plain(delta.mean("forkpoint_reasoning_tokens", policy=policy), 0),
        )
    return table


def _branches(delta: ScrapeDelta) -> Table:
    outcomes = delta.values("forkpoint_branches_total", "outcome")
    table = _table(
        "branching policy", "branches\n/s", "tokens\nshared /s", *(f"{outcome}\nso far" for outcome in outcomes)
    )
    for policy in delta.values("forkpoint_branches_total", "policy")[:MAX_ROWS]:
        table.add_row(
            Text(policy),
            f"{delta.rate('forkpoint_branches_total', policy=policy):.1f}",
            f"{delta.rate('forkpoint_branch_shared_tokens_total', policy=policy):.0f}",
            *(
                f"{delta.current('forkpoint_branches_total', policy=policy, outcome=outcome):.0f}"
                for outcome in outcomes
            ),
        )
    return table


def _arms(delta: ScrapeDelta) -> Table:
    table = _table("experiment", "arm", "requests\n/s", "requests\nso far", "outcomes posted here,\nmean (number)")
    requests, outcomes = "forkpoint_experiment_requests_total", "forkpoint_experiment_outcome"
    for experiment in delta.values(requests, "experiment")[:MAX_ROWS]:
        for arm in delta.values(requests, "arm", experiment=experiment):
            here = {"experiment": experiment, "arm": arm}
            means = []
            for metric in delta.values(f"{outcomes}_count", "metric", **here):
                number, total = (
                    delta.current(f"{outcomes}_{part}", metric=metric, **here) for part in ("count", "sum")
                )
                means.append(f"{metric} {plain(total / number if number else None, 3)} ({number:.0f})")
            table.add_row(
                Text(experiment),
                Text(arm),
                f"{delta.rate(requests, **here):.1f}",
                f"{delta.current(requests, **here):.0f}",
                Text(", ".join(means)),
            )
    return table


def sparkline(values: Sequence[float | None]) -> str:
    """One bar per value, scaled from the least to the greatest; a blank for None."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    return "".join(
        " " if value is None else BARS[round((len(BARS) - 1) * (value - low) / span) if span else 0] for value in values
    )


def _share(planning: float, execution: float) -> str:
    return f"{100 * planning / (planning + execution):.0f} %" if planning + execution else UNKNOWN


def _table(*headings: str) -> Table:
    """A table as wide as the screen; with 80 columns, one blank separates the figures."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=0)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    return table
