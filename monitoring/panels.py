"""What the dashboard shows: each row is a subject, with its panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SERVERS = 'job=~"$job",namespace=~"$namespace",instance=~"$instance"'
"""A server without a label `namespace`, outside Kubernetes, is chosen by All."""

HERE = f'{SERVERS},model_name=~"$model"'
POLICY = f'{HERE},policy=~"$policy"'
PLANNING = f'{POLICY},role="planning"'
PLACEBOS = f'{HERE},policy=~".+[.]placebo"'
TRACES = "traces?policy=${__field.labels.policy}"
"""The requests behind a policy's line. A policy that the console cannot filter by, such as `inline`, shows all."""
EXPERIMENT = "experiments?name=${__field.labels.experiment}"
ARM = f'{HERE},experiment=~"$experiment"'
METRIC = f'{ARM},metric=~"$metric"'


@dataclass(frozen=True)
class Panel:
    """A title, what it means, queries by their legends, the unit (Grafana's name of it), and the alert's threshold."""

    title: str
    description: str
    queries: dict[str, str]
    unit: str
    kind: Literal["lines", "stat", "bars", "heatmap"] = "lines"
    width: int = 8
    alert_above: float | None = None
    alert_below: float | None = None
    from_zero: bool = True
    page: str | None = None
    """The console's page that says more, after `/forkpoint#/`: of the server in the series' label `instance`, or, where
    the series are sums over servers, of the one that is chosen at the top."""


def rate(metric: str, by: str = "policy", labels: str = POLICY) -> str:
    """How much a counter grows in a second, summed over servers."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def mean(metric: str, by: str = "policy", labels: str = POLICY) -> str:
    """The mean of what a histogram has observed."""
    return f"{rate(f'{metric}_sum', by, labels)} / ({rate(f'{metric}_count', by, labels)} > 0)"


def per_token(metric: str, by: str = "policy") -> str:
    """How much a counter of policies grows with each token that they generate."""
    return f"{rate(metric, by)} / on (policy) group_left () ({rate('forkpoint_tokens_total')} > 0)"


def dose(labels: str) -> str:
    """How much of what policies generate they change, per token, summed over their actions."""
    changed, generated = (rate(f"forkpoint_{what}_total", labels=labels) for what in ("intervention_effect", "tokens"))
    return f"{changed} / ({generated} > 0)"


def quantile(q: float, metric: str, by: str = "policy", labels: str = POLICY) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'{by}, le', labels)})"


QUESTIONS: dict[str, tuple[Panel, ...]] = {
    "Planning and execution": (
        Panel(
            "Planning-token share",
            "The share of tokens above the fork threshold.",
            {
                "planning":
                f"{rate('forkpoint_tokens_total', '', PLANNING)} / ({rate('forkpoint_tokens_total', '')} > 0)"
            },
            "percentunit", "stat", 4,
        ),
        Panel(
            "Tokens by role",
            (
                "Of requests with a policy or `forks`; others are not looked at, "
                "unless the server's default is `--policy observe`."
            ),
            {"{{role}}": rate("forkpoint_tokens_total", "role")}, "tokens/s", width=10,
        ),
        Panel(
            "Mean entropy by role",
            "Of the raw distribution at temperature 1.",
            {"{{role}}": mean("forkpoint_token_entropy_nats", "role")}, "nats", width=10,
        ),
        Panel(
            "Entropies",
            "How many tokens a second had which entropy, in nats.",
            {"{{le}}": rate("forkpoint_token_entropy_nats_bucket", "le")}, "nats", "heatmap", 12,
        ),
        Panel(
            "Planning entropy against the model's own week",
            "The alert on entropy collapse compares these two.",
            {
                "{{model_name}}, an hour": 'forkpoint:planning_entropy_nats:mean1h{model_name=~"$model"}',
                "{{model_name}}, the week before": 'forkpoint:planning_entropy_nats:mean1w{model_name=~"$model"}',
            },
            "nats", width=12,
        ),
    ),
    "Policies": (
        Panel("Answers", "Choices that ended.", {"{{policy}}": rate("forkpoint_requests_total")}, "reqps", page=TRACES),
        Panel(
            "Finish reason",
            "`length` is truncated, `abort` a client that left, `error` a failure of the engine.",
            {"{{finish_reason}}": rate("forkpoint_requests_total", "finish_reason")}, "reqps",
        ),
        Panel(
            "Planning-token share by policy",
            "The share of tokens above the fork threshold.",
            {
                "{{policy}}":
                f"{rate('forkpoint_tokens_total', labels=PLANNING)} / ({rate('forkpoint_tokens_total')} > 0)"
            },
            "percentunit",
            page=TRACES,
        ),
        Panel(
            "Interventions",
            "Rules that fired, at tokens that were kept.",
            {"{{policy}}: {{action}}": rate("forkpoint_interventions_total", "policy, action")}, "ops", width=12,
            page=TRACES,
        ),
        Panel(
            "Changed tokens",
            "The summed effect of the rules: about which share of the tokens is not what it would have been.",
            {"{{policy}}: {{action}}": per_token("forkpoint_intervention_effect_total", "policy, action")},
            "percentunit", width=12,
            page=TRACES,
        ),
    ),
    "What policies change": (
        Panel(
            "Dose of placebos",
            (
                "The changed tokens of a placebo, per token, over those of its policy. Below 0.8 the placebo is too "
                "weak to say what the policy does beyond it."
            ),
            {
                "{{policy}}.placebo": (
                    f"label_replace({dose(PLACEBOS)}, \"policy\", \"$1\", \"policy\", \"(.+)[.]placebo\")"
                    f" / on (policy) ({dose(HERE)} > 0)"
                )
            },
            "none",
        ),
        Panel(
            "Length of the reasoning",
            "The mean, of choices whose client stayed.",
            {"{{policy}}": mean("forkpoint_reasoning_tokens")}, "tokens",
            page=TRACES,
        ),
        Panel(
            "Latency",
            (
                "From a request's arrival to its answer's end. "
                "All share one engine: who computes more slows the others, too."
            ),
            {
                "{{policy}}, median": quantile(0.5, "forkpoint_request_seconds"),
                "{{policy}}, 95th percentile": quantile(0.95, "forkpoint_request_seconds"),
            },
            "s",
            page=TRACES,
        ),
        Panel(
            "Mean entropy", "Of all tokens.", {"{{policy}}": mean("forkpoint_token_entropy_nats")}, "nats", page=TRACES
        ),
        Panel(
            "Connectors",
            "The share of tokens that are connector words, by family; a word may be in several.",
            {"{{policy}}: {{family}}": per_token("forkpoint_connectors_total", "policy, family")}, "percentunit",
            page=TRACES,
        ),
        Panel(
            "Branches",
            "Those that ended, by how; `refused`: there was no room.",
            {"{{policy}}: {{outcome}}": rate("forkpoint_branches_total", "policy, outcome")}, "ops",
            page=TRACES,
        ),
        Panel(
            "Shared tokens",
            "What branches did not have to generate, for each token that was generated.",
            {"{{policy}}": per_token("forkpoint_branch_shared_tokens_total")}, "percentunit",
            page=TRACES,
        ),
    ),
    "Experiments": (
        Panel(
            "Difference from control",
            "The arm's mean less the control arm's, with the ends of an interval that is valid at any time. Servers "
            "that share a database say the same.",
            {
                "{{experiment}}/{{arm}}: {{metric}} {{bound}}":
                f'max by (experiment, arm, metric, bound) (forkpoint_experiment_estimate{{{METRIC},of="difference"}})'
            },
            "none", width=12, from_zero=False,
            page=EXPERIMENT,
        ),
        Panel(
            "Mean per arm",
            "Of the requests that have ended, with the ends of its interval.",
            {
                "{{experiment}}/{{arm}}: {{metric}} {{bound}}":
                f'max by (experiment, arm, metric, bound) (forkpoint_experiment_estimate{{{METRIC},of="mean"}})'
            },
            "none", width=12, from_zero=False,
            page=EXPERIMENT,
        ),
        Panel(
            "Requests per arm",
            "Those that were assigned.",
            {"{{experiment}}/{{arm}}": rate("forkpoint_experiment_requests_total", "experiment, arm", ARM)},
            "reqps", width=24,
            page=EXPERIMENT,
        ),
        Panel(
            "Errors per arm",
            "The share of an arm's requests that failed.",
            {
                "{{experiment}}/{{arm}}": (
                    f"{rate('forkpoint_experiment_errors_total', 'experiment, arm', ARM)}"
                    f" / ({rate('forkpoint_experiment_requests_total', 'experiment, arm', ARM)} > 0)"
                )
            },
            "percentunit", alert_above=0.05,
            page=EXPERIMENT,
        ),
        Panel(
            "Sample ratio",
            "p of whether the arms have as many units as they should; below 0.01 the experiment is broken.",
            {"{{experiment}}": f"min by (experiment) (forkpoint_experiment_sample_ratio_p_value{{{ARM}}})"}, "none",
            alert_below=0.01,
            page=EXPERIMENT,
        ),
        Panel(
            "Not in an experiment",
            "Requests without its unit, or such that some arm's policy could not apply.",
            {"{{experiment}}: {{reason}}": rate("forkpoint_experiment_ineligible_total", "experiment, reason", ARM)},
            "reqps",
            page=EXPERIMENT,
        ),
    ),
    "Health and overhead": (
        Panel("Servers", "How many answer.", {"up": f"sum(up{{{SERVERS}}})"}, "none", "stat", 4),
        Panel(
            "Kernel",
            "Its own time per step, on the worker's host.",
            {
                "{{instance}}, mean": mean("forkpoint_step_seconds", "instance", HERE),
                "{{instance}}, 99th percentile": quantile(0.99, "forkpoint_step_seconds", "instance", HERE),
            },
            "s", width=10,
        ),
        Panel(
            "Kernel's share of a step",
            "More than 2% for a quarter of an hour is an alert.",
            {"{{instance}}": f"forkpoint:kernel_share_of_step:ratio5m{{{HERE}}}"}, "percentunit", width=10,
            alert_above=0.02, page="live",
        ),
        Panel(
            "Requests in the engine",
            "As vLLM counts them: each branch is one.",
            {
                "{{instance}}, running": f"sum by (instance) (vllm:num_requests_running{{{HERE}}})",
                "{{instance}}, waiting": f"sum by (instance) (vllm:num_requests_waiting{{{HERE}}})",
            },
            "none",
        ),
        Panel(
            "Time to first token",
            "The 95th percentile, as vLLM measures it; above 10 seconds for ten minutes is an alert.",
            {"{{instance}}": quantile(0.95, "vllm:time_to_first_token_seconds", "instance", HERE)}, "s",
            alert_above=10, page="live",
        ),
        Panel(
            "KV cache in use",
            "As vLLM counts it; above 95% for ten minutes is an alert.",
            {"{{instance}}": f"max by (instance) (vllm:kv_cache_usage_perc{{{HERE}}})"}, "percentunit",
            alert_above=0.95, page="live",
        ),
        Panel(
            "Generated tokens",
            "As vLLM counts them, of all requests.",
            {"{{instance}}": rate("vllm:generation_tokens_total", "instance", HERE)}, "tokens/s",
        ),
        Panel(
            "Dropped telemetry",
            "Tokens without a record, and requests of experiments that are not recorded, or not yet.",
            {
                "{{instance}}, tokens": rate("forkpoint_telemetry_dropped_total", "instance", HERE),
                "{{instance}}, requests ({{reason}})":
                rate("forkpoint_records_dropped_total", "instance, reason", HERE),
                "{{instance}}, requests that wait": f"sum by (instance) (forkpoint_records_waiting{{{HERE}}})",
            },
            "none",
        ),
    ),
    "Several servers": (
        Panel(
            "Servers of the database",
            (
                "How many sent a heartbeat within 15 seconds, as each server sees it. "
                "One that sees fewer than the others for longer does not reach the database."
            ),
            {"{{instance}}": f"max by (instance) (forkpoint_servers{{{HERE}}})"}, "none", width=12,
        ),
        Panel(
            "Traces asked of other servers",
            "What servers forwarded to each other; `none`: the other one did not answer.",
            {
                "{{instance}}: {{question}}, {{answer}}":
                rate("forkpoint_server_questions_total", "instance, question, answer", HERE)
            },
            "reqps", width=12,
        ),
    ),
}  # fmt: skip

MODELS = '__name__=~"forkpoint_build_info|forkpoint_requests_total"'
"""What knows each served model, and each adapter that was asked."""

RESTARTS = f"changes(process_start_time_seconds{{{SERVERS}}}[1m]) > 0"
"""Marks on all panels: a server was started again."""

CHANGES = {
    name: f'sum by (action) (increase(forkpoint_changes_total{{{HERE},kind="{kind}"}}[1m])) > 0'
    for name, kind in (("policies", "policy"), ("experiments", "experiment"), ("calibrations", "calibration"))
}
"""More marks: something was changed through the API, with what was done as the tag."""

CONSOLE = "console"
"""The variable that is one server: links from sums over servers open its console."""

VARIABLES = {
    "job": f"label_values({{{MODELS}}}, job)",
    "namespace": f'label_values({{{MODELS},job=~"$job"}}, namespace)',
    "model": f'label_values({{{MODELS},job=~"$job",namespace=~"$namespace"}}, model_name)',
    "instance": f'label_values({{{MODELS},job=~"$job",namespace=~"$namespace",model_name=~"$model"}}, instance)',
    CONSOLE: f"label_values(forkpoint_build_info{{{SERVERS}}}, instance)",
    "policy": f"label_values(forkpoint_requests_total{{{HERE}}}, policy)",
    "experiment": f"label_values(forkpoint_experiment_requests_total{{{HERE}}}, experiment)",
    "metric": f"label_values(forkpoint_experiment_estimate{{{ARM}}}, metric)",
}
"""What one can choose at the top: each one, several or all; the console, one."""
