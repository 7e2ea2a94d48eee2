"""What a worker holds: what was sent last, by digest."""

from __future__ import annotations

from forkpoint_policies.worker.artefacts import WorkerArtefacts
from tests.unit.policies.hidden.artefact_files import VECTOR, mlp_readout, readout


def test_what_was_sent_longest_ago_is_dropped() -> None:
    held = WorkerArtefacts(max_held=2)
    first, second, third = VECTOR, readout(), mlp_readout()
    assert [held.put(one.raw) for one in (first, second, first, third)] == [""] * 4
    assert held.get(second.digest) is None
    found = held.get(first.digest)
    assert found is not None
    assert found.to_dict() == first.to_dict()
    assert held.get(third.digest) is not None


def test_a_wrong_one_is_not_held() -> None:
    problem = WorkerArtefacts().put(b"nothing of the kind")
    assert problem == "artefact: is not a safetensors file, the only kind that is read"
