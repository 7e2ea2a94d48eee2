"""The JSON columns of experiments: rows that an earlier version wrote are read, and written again as they were."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine, insert, select

from forkpoint_server.store.definitions import EpochArm, StoredDefinition
from forkpoint_server.store.experiments import read_definitions
from forkpoint_server.store.tables import EPOCHS, EXPERIMENTS

DEFINITION: dict[str, Any] = {
    "description": "", "unit": "slice", "slice_seconds": 60.0, "layer": "l", "traffic": [0.0, 0.5], "priority": 3,
    "metrics": [{"name": "correct", "direction": "higher", "role": "decision", "margin": 0.0}], "alpha": 0.05,
    "salt": "s", "control": "control",
    "arms": [
        {"name": "control", "policy": None, "shadow": False, "digest": None, "label": None, "definition": None},
        {
            "name": "calm", "policy": {"use": "nowait", "with": {}}, "shadow": True, "digest": "abc",
            "label": "nowait (shadow)", "definition": {"shadow": True, "rules": [{"do": {"temperature": 0.5}}]},
        },
    ],
}  # fmt: skip
ARMS = {
    "control": {"status": "running", "intervals": [[0.0, 0.5, 0]]},
    "calm": {"status": "paused", "intervals": [[0.5, 0.6, 0], [0.6, 1.0, 1]]},
}


def test_a_row_is_written_as_it_was_read() -> None:
    assert json.dumps(StoredDefinition.model_validate(DEFINITION).to_dict()) == json.dumps(DEFINITION)
    assert json.dumps({name: EpochArm.model_validate(arm).to_dict() for name, arm in ARMS.items()}) == json.dumps(ARMS)


def test_rows_of_an_earlier_version_are_read(database: Engine) -> None:
    with database.begin() as connection:
        experiment = {"name": "old", "definition": DEFINITION, "status": "running", "created": 1.0}
        number = connection.execute(insert(EXPERIMENTS).values(experiment).returning(EXPERIMENTS.c.id)).scalar_one()
        connection.execute(insert(EPOCHS).values(experiment=number, number=0, arms=ARMS, begun=2.0))
    (stored,) = read_definitions(database).experiments
    assert (stored.name, stored.definition.control, stored.now.started_at) == ("old", "control", 2.0)
    assert stored.now.arms["calm"].intervals[1].since == 1
    assert stored.definition.arms[1].definition == {"shadow": True, "rules": [{"do": {"temperature": 0.5}}]}
    with database.connect() as connection:
        assert connection.execute(select(EXPERIMENTS.c.definition)).scalar_one() == stored.definition.to_dict()
