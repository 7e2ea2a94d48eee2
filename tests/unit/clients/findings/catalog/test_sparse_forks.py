"""`sparse-forks` finds planted entropies, and only those."""

from __future__ import annotations

import pytest

from forkpoint_clients.findings.catalog import (
    sparse_forks,
)
from tests.unit.clients.findings.synthetic import texts


def test_sparse_forks_finds_what_is_planted() -> None:
    found = sparse_forks.conclude(texts(sparse=True, seed=0))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.9, abs=0.01)
    assert found.figures[0].estimate.value == pytest.approx(1.0, abs=0.01)
    assert found.tables[0].rows[0][0] == "' Wait'"
    flat = sparse_forks.conclude(texts(sparse=False, seed=1))
    assert flat.verdict.word == "not reproduced"
    assert [claim.verdict.word for claim in found.claims] == ["reproduced", "measured"]
    assert [claim.verdict.word for claim in flat.claims] == ["not reproduced", "undecided"]
    assert sparse_forks.conclude([]).verdict.word == "undecided"
