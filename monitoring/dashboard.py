"""Writes what panels.py says as Grafana reads it: `make dashboard` puts it into grafana/dashboards/forkpoint.json."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .panels import CHANGES, CONSOLE, EXPERIMENT, QUESTIONS, RESTARTS, TRACES, VARIABLES, Panel

FILE = Path(__file__).parent / "grafana" / "dashboards" / "forkpoint.json"
TITLES = {
    "live": "Open this server's console", TRACES: "Open this policy's traces", EXPERIMENT: "Open this experiment",
}  # fmt: skip
"""What a link to a page of the console says."""
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def make() -> str:
    """The dashboard as Grafana reads it."""
    board = (
        Dashboard("Forkpoint")
        .uid("forkpoint")
        .description("What the model does at its forks, and what policies make of it.")
        .tags(["forkpoint", "vllm"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("data source").type("prometheus"))
        .link(
            DashboardLink("Console")
            .type(DashboardLinkType.LINK)
            .url(f"http://${{{CONSOLE}}}/forkpoint")
            .target_blank(True)
        )
    )
    for name, query in VARIABLES.items():
        board.with_variable(_variable(name, query))
    for name, expression in {"restarts": RESTARTS, **CHANGES}.items():
        colour = "orange" if name == "restarts" else "blue"
        board.annotation(
            AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)
        )
    for question, panels in QUESTIONS.items():
        board.with_row(Row(question))
        for panel in panels:
            board.with_panel(_rendered(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _variable(name: str, query: str) -> QueryVariable:
    made = QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    if name == CONSOLE:
        return made.label("links open the console of")
    return (
        made.multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all", selected=True))
    )


def _rendered(panel: Panel) -> timeseries.Panel | stat.Panel | bargauge.Panel | heatmap.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    built: timeseries.Panel | stat.Panel | bargauge.Panel | heatmap.Panel
    if panel.kind == "stat":
        built = stat.Panel().min(0)
    elif panel.kind == "bars":
        built = bargauge.Panel()
    elif panel.kind == "heatmap":
        built = heatmap.Panel().y_axis(heatmap.YAxisConfig().unit(panel.unit))
    else:
        built = timeseries.Panel().fill_opacity(8).legend(legend)
        built = built.min(0) if panel.from_zero else built
    built = (
        built.title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .height(8)
        .span(panel.width)
    )
    bounds = [(panel.alert_above, "green", "red"), (panel.alert_below, "red", "green")]
    for bound, under, over in bounds:
        if bound is not None and isinstance(built, timeseries.Panel):
            steps = [Threshold(value=None, color=under), Threshold(value=bound, color=over)]
            built = built.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)).thresholds_style(
                common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            )
    if panel.page is not None and isinstance(built, timeseries.Panel):
        own = all("{{instance}}" in legend for legend in panel.queries)
        server = "${__field.labels.instance}" if own else f"${{{CONSOLE}}}"
        address = f"http://{server}/forkpoint#/{panel.page}"
        built = built.data_links([DashboardLink(TITLES[panel.page]).url(address).target_blank(True)])
    for letter, (label, expression) in zip("ABC", panel.queries.items(), strict=False):
        query = Dataquery().ref_id(letter).datasource(SOURCE).expr(expression).legend_format(label)
        query = query.instant() if panel.kind == "bars" else query.range()
        built = built.with_target(query.format(PromQueryFormat.HEATMAP) if panel.kind == "heatmap" else query)
    return built


if __name__ == "__main__":
    FILE.write_text(make())
