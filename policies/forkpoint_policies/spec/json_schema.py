"""Writes the policy language's JSON Schema into the file that is served and shipped: `make schema`."""

from __future__ import annotations

import json

from .policy import SCHEMA, Policy


def schema() -> str:
    """The schema as the file holds it."""
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    SCHEMA.write_text(schema())
