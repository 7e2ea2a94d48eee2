"""`/metrics` in OpenMetrics is what OpenMetrics allows."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from forkpoint_server.http.openmetrics import _page
from forkpoint_server.metrics import READOUT


def test_a_histogram_with_buckets_below_0_has_neither_sum_nor_count() -> None:
    labels = ("a model", "a policy", "a readout")
    READOUT.labels(*labels).observe(-1.0)
    try:
        families = text_string_to_metric_families(_page().decode())  # type: ignore[no-untyped-call]  # raises
        found = {sample.name for family in families for sample in family.samples}
    finally:
        READOUT.remove(*labels)
    assert "forkpoint_readout_bucket" in found
    assert not {"forkpoint_readout_count", "forkpoint_readout_sum"} & found
