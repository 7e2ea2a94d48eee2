"""The page of evidence on a model: what it covers and cost, its calibration, its findings, and the arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import Estimate

STAGES = ("calibration", "findings", "arms")


def page(
    model: str,
    state: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    findings: str | None,
    arms: Mapping[str, Any] | None,
) -> str:
    """The page in Markdown. `findings` is the page that `forkpoint findings` wrote; a stage that is None is missing."""
    parts = [f"# Evidence on the model `{model}`", *_covers(state, calibration, findings, arms)]
    if calibration is not None:
        parts += ["## Calibration", _calibration(calibration)]
    if findings is not None:
        first, _, rest = findings.partition("\n")
        sections = rest.replace("\n## ", "\n### ").strip()
        parts += [f"## {first.removeprefix('# ')}", sections]
    if arms is not None:
        parts += ["## Policies beside their placebos", *_arms(arms)]
    return "\n\n".join(parts) + "\n"


def _covers(
    state: Mapping[str, Any], calibration: object | None, findings: object | None, arms: object | None
) -> Iterator[str]:
    present = [name for name, part in zip(STAGES, (calibration, findings, arms), strict=True) if part is not None]
    missing = [name for name in STAGES if name not in present]
    settings, hours = state["settings"], state["seconds"] / 3600
    covers = f"Covers {', '.join(present) or 'nothing yet'}."
    if missing:
        covers += f" **Not finished: {', '.join(missing)}.** The same command continues."
    yield (
        f"{covers} {state['tokens']:,} of {settings['budget_tokens']:,} tokens were generated, in {hours:.1f} hours."
        f"{' ' + settings['note'] if settings['note'] else ''}"
    )
    yield f"```bash\n{state['command']}\n```"
    yield f"Data: `{settings['data']}`, {', '.join(f'{name} {value}' for name, value in state['data'].items())}."
    if state.get("grown"):
        yield (
            f"Findings started with {settings['questions']} questions and were continued to {state['grown']}, because "
            "some were undecided. A verdict at the larger number has slightly more than its nominal chance to be wrong."
        )


def _calibration(profile: Mapping[str, Any]) -> str:
    low, high = profile["interval"]
    return (
        f"Fork threshold **{profile['fork_threshold']:.3f} nats** [{low:.3f}, {high:.3f}], the 80th percentile of "
        f"{profile['tokens']:,} tokens in {profile['answers']} answers to {profile['prompts']} prompts; "
        f"{100 * profile['share_below_0_01']:.0f}% of the tokens are below 0.01 nats."
    )


def _arms(results: Mapping[str, Any]) -> Iterator[str]:
    if results["interim"]:
        yield f"**Not complete**: {results['answered']} of {results['asked']} answers, and no p-values yet."
    yield (
        f"{results['questions']} questions of `{results['configuration']['data']['source']}` under every arm with the "
        f"same seeds, scored by `{results['scorer']}`. The dose is the expected number of changed tokens per token."
    )
    differences = {one["arm"]: one for one in results["differences"]}
    rows = [
        "| arm | right | tokens | dose | right, less the first | p (Holm) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm in results["arms"]:
        difference = differences.get(arm["arm"])
        against = " | "
        if difference is not None:
            points = formatting.points(_estimate(difference["correct"]))
            against = f"{points} | {formatting.p_value(difference['correct_p_holm'])}"
        rows.append(
            f"| `{arm['arm']}` | {formatting.percent(_estimate(arm['correct']))} | "
            f"{formatting.count(_estimate(arm['tokens']))} | {formatting.plain(arm['dose'], 3)} | {against} |"
        )
    yield "\n".join(rows)
    yield "\n".join(f"- {warning}" for warning in results["warnings"]) or "No warnings."


def _estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    """An estimate as reports store it, where NaN is None."""
    if data is None:
        return None
    return Estimate(**{name: float("nan") if value is None else value for name, value in data.items()})
