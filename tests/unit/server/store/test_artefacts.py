"""Vectors and readouts in the database, and how a server follows them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlalchemy import Engine

from forkpoint_policies.hidden.artefact import Artefact, Model, read_artefact
from forkpoint_policies.spec import InputError
from forkpoint_server.artefacts.served import NamedArtefact, ServedArtefacts
from forkpoint_server.store import artefacts as store
from forkpoint_server.store.artefacts import FullError, OtherModelError, read_file, remove_artefact, write_artefact
from forkpoint_server.store.experiments import read_definitions, read_number
from tests.unit.policies.hidden.artefact_files import MODEL, VECTOR, readout

OTHER = Model("LlamaForCausalLM", 6)


class Workers:
    """Records what is sent to it; `problem` is its answer."""

    def __init__(self, problem: str = "") -> None:
        self.sent: list[str] = []
        self.problem = problem

    async def push(self, artefact: Artefact) -> str:
        self.sent.append(artefact.digest)
        return self.problem


def test_each_change_is_noticed(database: Engine) -> None:
    assert write_artefact(database, "calm", VECTOR)
    assert read_definitions(database).artefacts == {"calm": VECTOR.digest}
    before = read_number(database)
    assert not write_artefact(database, "calm", readout())
    assert read_number(database) == before + 1
    file = read_file(database, "calm")
    assert file is not None
    assert file.digest == read_artefact(file.raw, "x").digest == readout().digest
    remove_artefact(database, "calm")
    assert read_number(database) == before + 2
    assert read_file(database, "calm") is None
    with pytest.raises(KeyError):
        remove_artefact(database, "calm")
    assert read_number(database) == before + 2


def test_what_cannot_be_stored(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_STORED", 2)
    write_artefact(database, "other", readout(model=OTHER))
    with pytest.raises(OtherModelError, match="LlamaForCausalLM with 6 dimensions"):
        write_artefact(database, "other", readout())
    write_artefact(database, "mine", readout())
    with pytest.raises(FullError):
        write_artefact(database, "more", readout())


async def test_a_server_sends_what_is_new_and_for_its_model(database: Engine) -> None:
    changes: list[list[str]] = []

    def note(usable: Mapping[str, Artefact]) -> None:
        changes.append(list(usable))

    workers = Workers()
    fixed = NamedArtefact("fixed", VECTOR, "folder")
    served = ServedArtefacts(database, MODEL, workers.push, [fixed], note)
    await served.start()
    write_artefact(database, "correct", readout())
    write_artefact(database, "other", readout(model=OTHER))
    for _ in range(2):
        await served.follow(read_definitions(database).artefacts)
    assert workers.sent == [VECTOR.digest, readout().digest]
    assert changes == [["correct", "fixed"]]
    assert served.named["other"].to_dict()["problem"] == "is for LlamaForCausalLM with 6 dimensions"
    write_artefact(database, "correct", readout(bias=1.0))
    await served.follow(read_definitions(database).artefacts)
    assert served.usable["correct"].digest == readout(bias=1.0).digest
    remove_artefact(database, "correct")
    await served.follow(read_definitions(database).artefacts)
    assert changes[1:] == [["correct", "fixed"], ["fixed"]]


async def test_one_that_the_server_was_started_with_must_be_usable(database: Engine) -> None:
    for artefact, workers, says in (
        (readout(model=OTHER), Workers(), r"--vectors: x\.safetensors: is for Llama.*, but the served model is Qwen3"),
        (readout(), Workers("no room"), r"--vectors: x\.safetensors: no room"),
    ):
        with pytest.raises(InputError, match=says):
            await ServedArtefacts(database, MODEL, workers.push, [NamedArtefact("x", artefact, "folder")]).start()
