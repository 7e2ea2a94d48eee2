"""Policies with conditions on readouts, compiled for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from forkpoint_policies.compile.compiler import CompiledPolicy, compile_policy
from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_policies.spec import parse_policy
from tests.unit.policies.factories import Json, policy
from tests.unit.policies.vocabularies import TARGET


def compiled_with(artefacts: Mapping[str, Artefact], *rules: Json) -> CompiledPolicy:
    """These rules, compiled for a model with these vectors and readouts."""
    return compile_policy(parse_policy(policy(*rules)), replace(TARGET, artefacts=artefacts))
