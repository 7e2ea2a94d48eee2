"""Equal treatments share their answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forkpoint_clients.evaluate.asker import Asker, ServerLostError
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.lab import CannotError, Lab, LabSetting, Treatment
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
