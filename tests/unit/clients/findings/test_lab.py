"""Equal treatments share their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forkpoint_clients.evaluate.asker import Asker, ServerLostError
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.lab import CALIBRATION_ANSWERS, CannotError, Lab, LabSetting, Treatment
from forkpoint_clients.findings.reading import EntropyTrace
from tests.unit.clients.stub_server import completion, error, stub_server


def test_equal_treatments_share_their_answers() -> None:
    assert Treatment("one", {"use": "nowait"}, 1.0).key == Treatment("other", {"use": "nowait"}).key
    assert (
        len(
            {
                one.key
                for one in (
                    Treatment("x"),
                    Treatment("x", "nowait"),
                    Treatment("x", temperature=0.5),
                    Treatment("x", answers=4),
                )
            }
        )
        == 4
    )


ITEM = Item("q", ({"role": "user", "content": "2 + 2?"},), "4")


TEXT = EntropyTrace("q", ("4",), np.array([0.1]), np.array([True]), 0.5, "4", "", finished=True)


@pytest.mark.parametrize(
    ("status", "kind"), [(503, ServerLostError), (429, ServerLostError), (400, CannotError), (404, CannotError)]
)
async def test_only_refusals_are_what_a_server_cannot(tmp_path: Path, status: int, kind: type[Exception]) -> None:
    with stub_server(lambda _: (200, completion("4")), lambda path, body: (status, error("not now"))) as server:
        async with Asker(server.url, "m", retries=0) as asker:
            with Journal(tmp_path, {}) as journal:
                lab = Lab(LabSetting([ITEM], [ITEM], scorer("exact")), asker, journal)
                with pytest.raises(kind, match="not now"):
                    await lab.verify({"q": [0]}, {"q": TEXT})


async def test_a_placebo_gets_the_dose_of_its_policy(tmp_path: Path) -> None:
    """Of this server, a placebo by dose has a twentieth of its strength: 2 nats have the policy's dose."""

    def effect(policy: Any) -> float:
        return 10.0 if policy == "nowait" else 5.0 * policy["with"]["strength"]

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        interventions = {"suppress": {"fired": 1, "effect": effect(body["policy"])}}
        return 200, completion("4", 100, forkpoint={"interventions": interventions})

    seeds: set[int] = set()

    def counted(body: dict[str, Any]) -> tuple[int, Any]:
        seeds.add(body["seed"])
        return reply(body)

    with stub_server(counted, lambda path, body: (200, {"digest": str(body), "data": [{"id": "m"}]})) as server:
        async with Asker(server.url, "m", retries=0) as asker:
            with Journal(tmp_path, {}) as journal:
                lab = Lab(LabSetting([ITEM], [ITEM], scorer("exact")), asker, journal)
                placebo = await lab.with_dose("nowait")
                calibrated = len(journal.answers)
                of_calibration = set(seeds)
                assert await lab.with_dose("nowait") == placebo
                assert len(journal.answers) == calibrated, "a resumed run asks nothing again"
                seeds.clear()
                await lab.ask([Treatment("nowait", "nowait")])
    assert placebo is not None
    assert placebo.policy == {"use": "nowait.placebo", "with": {"match": "dose", "strength": 2.0}}
    assert calibrated == 3 * CALIBRATION_ANSWERS, "the policy, and strengths of 1 and 2 nats"
    assert len(of_calibration) == CALIBRATION_ANSWERS
    assert not of_calibration & seeds
