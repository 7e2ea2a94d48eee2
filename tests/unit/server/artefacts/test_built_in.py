"""The readouts that ship for the embedded model: they are for it, and a policy can name them."""

from __future__ import annotations

import json
from dataclasses import replace

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.hidden.artefact import Model
from forkpoint_policies.spec import parse_policy
from forkpoint_server.artefacts.folder import read_folder
from forkpoint_server.demo import READOUTS, WEIGHTS
from tests.unit.policies.vocabularies import TARGET


def test_they_are_for_the_embedded_model() -> None:
    config = json.loads((WEIGHTS / "config.json").read_text())
    found = read_folder(READOUTS)
    assert list(found) == ["correct"]
    correct = found["correct"]
    assert correct.model == Model(config["architectures"][0], config["hidden_size"])
    assert (correct.kind, correct.output) == ("readout", "probability")
    assert 0.5 < correct.suggested < 1
    policy = {"rules": [{"when": {"readout_above": {"name": "correct", "value": 0.85}}, "do": {"observe": {}}}]}
    assert compile_policy(parse_policy(policy), replace(TARGET, artefacts=found)).readouts == ("correct",)
