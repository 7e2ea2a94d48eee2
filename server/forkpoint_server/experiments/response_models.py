"""What `/v1/experiments` answers with, as its OpenAPI document says it; docs/experiments-analysis.md explains it.

The routes do not make these: the functions that do are tested against the document.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from forkpoint_server.store.built_in_metrics import Direction, Role
from forkpoint_server.store.definitions import EpochArm, StoredMetric

from .definition import ArmStatus, Status

Ends = tuple[float, float]


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArmResponse(_Response):
    """An arm: its policy as it was posted, and its share of all units now."""

    name: str
    policy: Any
    digest: str | None
    shadow: bool
    weight: float
    status: ArmStatus


class EpochResponse(_Response):
    """A time in which nothing was changed; `begun` is its start, in Unix seconds."""

    number: int
    begun: int
    arms: dict[str, EpochArm]


class ExperimentResponse(_Response):
    """An experiment without its figures. `salt` is for admins, `problem` says why it does not run on this server."""

    object: Literal["experiment"]
    name: str
    description: str
    unit: str
    slice_seconds: float | None
    layer: str | None
    traffic: Ends
    priority: int
    metrics: list[StoredMetric]
    alpha: float
    salt: str = ""
    control: str
    arms: list[ArmResponse]
    status: Status
    created: int
    epochs: list[EpochResponse]
    problem: str = ""


class ExperimentsResponse(_Response):
    """All experiments, oldest first."""

    object: Literal["list"]
    data: list[ExperimentResponse]


class RequestsMean(_Response):
    """A metric's mean over the requests that have it."""

    requests: int
    mean: float | None


class ArmFigures(_Response):
    """What was recorded for an arm."""

    arm: str
    requests: int
    units: int
    metrics: dict[str, RequestsMean]


class Mean(_Response):
    """A mean with its interval, valid at every look. `reason` says why there is none."""

    units: int
    requests: int
    mean: float | None
    interval: Ends | None
    reason: str | None


class Difference(_Response):
    """One mean less another. `relative` is a share of the other; `reason` says why nothing is certain."""

    estimate: float | None
    relative: float | None
    standard_error: float | None
    interval: Ends | None
    p_value: float
    reason: str | None


class MoreRequests(_Response):
    """The further requests that would show an `effect`."""

    effect: float | None
    source: str | None
    requests: int | None


class Guardrail(_Response):
    """The harm, and whether it is certainly above the margin or below it."""

    margin: float
    harm: float | None
    at_least: float | None
    at_most: float | None
    p_value: float
    status: str | None


class Diluted(_Response):
    """The difference of the triggered requests as one of all requests."""

    share: float | None
    estimate: float | None
    interval: tuple[float | None, float | None] | None


class Alike(_Response):
    """The test that the same share of requests is triggered in both arms."""

    passed: bool | None
    p_value: float | None
    shares: tuple[float | None, float | None] | None


class Triggered(Difference):
    """The requests in which the arm's policy could act, in both arms."""

    arm: Mean
    control: Mean
    diluted: Diluted
    alike: Alike
    p_value_holm: float | None = None


class ControlDifference(Difference):
    """An arm less the control. Verdicts are null where the test of the sample ratio failed."""

    p_value_holm: float | None
    verdict: str | None
    text: str | None
    more_requests: MoreRequests
    guardrail: Guardrail | None
    triggered: Triggered | None


class ArmMean(Mean):
    """An arm in one metric; the control has no `difference`."""

    difference: ControlDifference | None = None


class MetricAnalysis(_Response):
    """One metric in all arms."""

    direction: Direction
    role: Role
    margin: float
    arms: dict[str, ArmMean]
    warning: str | None


class SampleRatio(_Response):
    """The test that the arms have as many units as their weights say."""

    passed: bool
    p_value: float
    alpha: float
    units: dict[str, int]
    expected: dict[str, float]
    reason: str | None


class PlaceboDifference(Difference):
    """An arm less its placebo."""

    p_value_holm: float | None
    verdict: str | None


class PlaceboComparison(_Response):
    """An arm beside its placebo. Doses are expected changed tokens per token."""

    arm: str
    placebo: str
    dose: float | None
    placebo_dose: float | None
    ratio: float | None
    requests_without_effect: int
    conclusion: str | None
    metrics: dict[str, PlaceboDifference]


class Analysis(_Response):
    """The analysis of the requests that ended before `until`, in Unix seconds, or of all."""

    sample_ratio: SampleRatio
    verdict: str | None
    alpha: float
    control: str
    comparisons: int
    metrics: dict[str, MetricAnalysis]
    warnings: list[str]
    placebos: list[PlaceboComparison]
    until: int | None
    untriggered: dict[str, str]


class ReportResponse(ExperimentResponse):
    """An experiment with its figures and their analysis."""

    figures: list[ArmFigures]
    analysis: Analysis


class TimelinePoint(_Response):
    """A difference from the control as it stood at a time, in Unix seconds."""

    until: float
    estimate: float | None
    interval: Ends | None


class TimelineResponse(_Response):
    """How the intervals of a metric narrowed, by arm."""

    object: Literal["experiment.timeline"]
    name: str
    metric: str
    arms: dict[str, list[TimelinePoint]]


class DeletedResponse(_Response):
    """What was deleted."""

    object: Literal["experiment.deleted"]
    name: str
    deleted: Literal[True]


class OutcomesResponse(_Response):
    """How many outcomes were new, and how many were known already."""

    stored: int
    duplicates: int
