"""What a rule of a tree writes into its further requests: a probe's trial, a resumption's text."""

from __future__ import annotations

from forkpoint_policies.spec import InputError, Probe, Resume, TreeAction

from .compilation import Compilation
from .compiled_policy import Insertion
from .program import NO_TOKEN
from .written_texts import MAX_WRITTEN, around_end, check_end_token, reasoning_end, text_tokens


def written_tokens(build: Compilation, action: TreeAction, field: str) -> list[int]:
    """What further requests start with: a probe's end of the reasoning and text, or the text after which an answer is
    resumed."""
    if isinstance(action, Probe):
        _read_probe(build, action, field)
        return list(build.trial.tokens)
    if not isinstance(action, Resume):
        return []
    if action.final is not None:
        build.final = text_tokens(build, action.final.text, f"{field}.final.text")
    return text_tokens(build, action.text, f"{field}.text")


def _read_probe(build: Compilation, probe: Probe, field: str) -> None:
    """What a probe writes before its trial answers, and where it ends the reasoning."""
    if probe.place == "reasoning":
        text = text_tokens(build, probe.text, f"{field}.text", MAX_WRITTEN) if probe.text else []
        build.trial = Insertion(probe.text, tuple(text))
        build.ending = Insertion(marker=tuple(reasoning_end(build, field)))
    else:
        build.trial = build.ending = around_end(build, probe.before, probe.text, field, after_name="text")
        if not probe.text and (probe.probability_above is not None or probe.agreement is not None):
            build.warnings.append(
                f"{field}.text is empty, so that what the model says first after its reasoning is tried, its "
                "result or not; a text that requests the result is surer"
            )
    for name in ("end_of_reasoning_within", "end_of_reasoning_ranks"):
        if getattr(probe, name) is not None:
            check_end_token(build, f"{field}.{name}")
    if (end := probe.end_reasoning) is not None:
        build.ending = around_end(build, end.before, end.after, f"{field}.end_reasoning")
        if end.stop and build.target.stop == NO_TOKEN:
            raise InputError(
                f"{field}.end_reasoning.stop", "cannot be done: the served model has no token that ends its text"
            )
