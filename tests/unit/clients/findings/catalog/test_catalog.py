"""Every module of the catalog is a finding, and its inline policies are valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from forkpoint_clients.findings.catalog import (
    FINDINGS,
    early_exit,
    fork_temperature,
)
from forkpoint_policies.spec import parse_policy

EAT = early_exit.EXITS[2]


INLINE = [
    *(one.policy for one in fork_temperature.treatments(0.25)[1:]),
    EAT.policy(600),
    EAT.policy(600, placebo=True),
]


@pytest.mark.parametrize("policy", INLINE)
def test_policies_are_policies(policy: Mapping[str, Any]) -> None:
    parse_policy(policy)


def test_every_file_is_a_finding_with_a_source() -> None:
    assert list(FINDINGS) == [
        "sparse-forks",
        "dynamics",
        "fork-validity",
        "fork-temperature",
        "connectors",
        "entropy-law",
        "branching",
        "early-exit",
        "effective-rank",
        "mi-peaks",
        "steering",
        "recycling",
    ]
    assert all(one.claim and one.source and one.protocol and one.question for one in FINDINGS.values())
