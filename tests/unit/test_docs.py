"""Every policy that the documentation shows is one."""

import json
import re
from pathlib import Path

import pytest
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import parse_policy
from forkpoint_server import metrics
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[2]
SHOWN = [
    (file.name, block)
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"```json\n(.*?)```", file.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("block", [block for _, block in SHOWN], ids=[f"{name}-{number}" for number, (name, _) in enumerate(SHOWN)])
def test_a_policy_of_the_documentation(block: str) -> None:
    assert parse_policy(json.loads(block)).rules


def test_each_condition_and_action_has_an_example() -> None:
    policies = [parse_policy(json.loads(block)) for _, block in SHOWN]
    rules = [rule for policy in policies for rule in policy.rules]
    shown = {name for rule in rules for name in (*rule.when.model_fields_set, *rule.do.model_fields_set)}
    wanted = {*type(rules[0].when).model_fields, *type(rules[0].do).model_fields}
    assert wanted <= shown
    assert {kind for rule in rules if rule.do.truncate for kind in rule.do.truncate.model_fields_set} >= {"min_p", "top_k"}


def test_each_metric_and_each_named_policy_is_documented() -> None:
    monitoring, policies = (ROOT / "docs" / "monitoring.md").read_text(), (ROOT / "docs" / "policies.md").read_text()
    documented = dict(re.findall(r"^\| `(forkpoint_\w+)` \|([^|]*)\|", monitoring, re.MULTILINE))
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = next(iter(metric.describe())).name + ("_total" if isinstance(metric, Counter) else "")
            labels = re.sub(r"\(.*?\)", "", documented.pop(name))
            assert re.findall(r"`(\w+)`", labels) == list(metric._labelnames), name
    assert not documented
    for name in LIBRARY:
        assert f"| `{name}` |" in policies
