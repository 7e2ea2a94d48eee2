"""The vector and the readout that ship for the embedded model: they are for it, and a policy can name them."""

from __future__ import annotations

import json
from dataclasses import replace

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.hidden.artefact import Model
from forkpoint_policies.spec import parse_policy
from forkpoint_server.artefacts.folder import read_folder
from forkpoint_server.demo import VECTORS, WEIGHTS
from tests.unit.policies.vocabularies import TARGET


def test_they_are_for_the_embedded_model() -> None:
    config = json.loads((WEIGHTS / "config.json").read_text())
    found = read_folder(VECTORS)
    assert sorted(found) == ["correct", "seal"]
    assert {one.model for one in found.values()} == {Model(config["architectures"][0], config["hidden_size"])}
    correct, seal = found["correct"], found["seal"]
    assert (seal.kind, seal.layers, seal.suggested) == ("vector", (1,), 1.0)
    steer = {"rules": [{"do": {"steer": {"vector": "seal"}}}]}
    hooked = replace(TARGET, artefacts=found, hidden_layers=seal.layers)
    assert compile_policy(parse_policy(steer), hooked).program.rules[0].vector == seal.digest
    assert (correct.kind, correct.output) == ("readout", "probability")
    assert 0.5 < correct.suggested < 1
    policy = {"rules": [{"when": {"readout_above": {"name": "correct", "value": 0.85}}, "do": {"observe": {}}}]}
    assert compile_policy(parse_policy(policy), replace(TARGET, artefacts=found)).readouts == ("correct",)
