"""`recycling` finds planted effects, and only those, at a layer that the server can run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.evaluate.asker import Asker
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.catalog import recycling
from forkpoint_clients.findings.lab import CannotError, Lab, LabSetting
from tests.unit.clients.findings.synthetic import answers_with, words
from tests.unit.clients.stub_server import completion, error, stub_server

ITEM = Item("q", ({"role": "user", "content": "2 + 2?"},), "4")


@pytest.mark.parametrize(
    ("own", "placebo", "word"),
    [(0.95, 0.5, "reproduced"), (0.1, 0.5, "not reproduced"), (0.95, 0.95, "undecided"), (0.5, 0.5, "undecided")],
)
def test_recycling_finds_what_is_planted(own: float, placebo: float, word: str) -> None:
    shares = {"no policy": 0.5, recycling.RECYCLE: own, recycling.PLACEBO: placebo}
    found = recycling.conclude({name: answers_with(share, seed=n) for n, (name, share) in enumerate(shares.items())}, 2)
    assert words(found) == [word]
    assert "layer 2" in found.tables[0].title


@pytest.mark.parametrize(("layers", "layer"), [([2], 2), ([1, 3, 2], 3), ([12, 23, 27], 23)])
async def test_the_layer_is_one_that_the_server_runs_again(layers: Sequence[int], layer: int, tmp_path: Path) -> None:
    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        return 200, {"recycle_layers": list(layers), "digest": str(body)}

    with stub_server(lambda body: (200, completion("4")), route) as server:
        async with Asker(server.url, "m", retries=0) as asker:
            with Journal(tmp_path, {}) as journal:
                lab = Lab(LabSetting([ITEM], [ITEM], scorer("exact")), asker, journal)
                assert recycling.layer_of(await lab.recycle_layers()) == layer
                await lab.ask(recycling.treatments(layer))
    assert sorted(body["policy"]["use"] for body in server.requests) == [recycling.RECYCLE, recycling.PLACEBO]
    assert {body["policy"]["with"]["layer"] for body in server.requests} == {layer}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"recycle_layers": []}, "started with --recycle-layers N"),
        (200, {"object": "list"}, "started with --recycle-layers N"),
        (404, error("Not Found"), "Not Found"),
    ],
)
async def test_a_server_without_such_layers_is_asked_nothing(status: int, body: Any, said: str, tmp_path: Path) -> None:
    with stub_server(lambda _: (500, error("not to be asked")), lambda path, sent: (status, body)) as server:
        async with Asker(server.url, "m", retries=0) as asker:
            with Journal(tmp_path, {}) as journal:
                lab = Lab(LabSetting([ITEM], [ITEM], scorer("exact")), asker, journal)
                with pytest.raises(CannotError, match=said):
                    await recycling.retest(lab)
        assert server.requests == []
