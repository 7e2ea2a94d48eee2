"""The JSON Schema in the package is the one of the policy language."""

from __future__ import annotations

import json

from forkpoint_policies.spec import SCHEMA, Do
from forkpoint_policies.spec.json_schema import schema as schema_now


def test_the_json_schema_lists_the_fields() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == json.loads(schema_now()), "run make schema"
    assert schema["required"] == ["rules"]
    assert set(schema["properties"]) == {"name", "description", "source", "shadow", "rules"}
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["Do"]["properties"]) == set(Do.model_fields)
