"""The benchmarks compare trees with baselines of equal cost: independent samples, or a plain cap."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.one_answer import cap_for
from benchmarks.trees import Outcome, beyond, majority, of_samples, stored
from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.processes.forkpoint_server import Server


def test_between_two_numbers_of_samples_in_proportion_and_never_beyond_what_was_sampled() -> None:
    samples = np.array([[[0.2, 0.1], [0.6, 0.3]], [[0.4, 0.1], [0.8, 0.5]]])  # two puzzles, one or two samples
    own, each = np.array([[1.0, 0.5], [0.5, 0.5]]), np.array([100.0, 100.0])
    every = np.array([[0, 1]])
    counts, differences = beyond(own, np.array([140.0, 160.0]), samples, each, every)
    assert counts == pytest.approx([1.5])
    assert differences[0] == pytest.approx([0.75 - 0.5, 0.5 - 0.25])
    assert beyond(own, np.array([900.0, 900.0]), samples, each, every)[0] == [2.0]
    assert beyond(own, np.array([10.0, 10.0]), samples, each, every)[0] == [1.0]
    twice = beyond(own, np.array([100.0, 200.0]), samples, each, np.array([[0, 0], [1, 1]]))
    assert twice[0].tolist() == [1.0, 2.0], "computed anew in each resample of puzzles"


def test_of_samples_is_exact_for_the_share_that_pass() -> None:
    outcome = Outcome((True, False, False, False), ("a", "b", "b", None), 400)
    passed, voted = of_samples(outcome, 2, np.random.default_rng(0))
    assert passed == pytest.approx(0.5)
    assert 0.2 < voted < 0.5, "a tie is shared, and an invalid answer has no vote"
    assert majority((True, False), ("a", "b")) == 0.5
    assert majority((False,), (None,)) == 0.0


def test_a_cap_yields_the_requested_mean() -> None:
    lengths = np.array([10.0, 20.0, 30.0])
    assert cap_for(15.0, lengths) in (17, 18)
    assert cap_for(20.0, lengths) is None


def test_an_arm_that_an_earlier_run_finished_is_not_asked_again(tmp_path: Path) -> None:
    puzzles = held_out_puzzles("hard", 2)
    asked = {
        "forkpoint": version("forkpoint-server"),
        "policy": "nowait",
        "answers": 1,
        "puzzles": [puzzle.prompt for puzzle in puzzles],
    }
    outcomes = [
        {"correct": [True], "said": ["1 + 2"], "tokens": 30},
        {"correct": [False], "said": [None], "tokens": 50},
    ]
    (tmp_path / "nowait.json").write_text(json.dumps({"asked": asked, "outcomes": outcomes, "prompt_tokens": 4.0}))
    nobody = Server("http://127.0.0.1:9", tmp_path / "log", subprocess.Popen(["true"]))
    nobody.process.wait()

    arm = stored(tmp_path, "nowait", nobody, "nowait", 1, puzzles, 2)

    assert arm.tokens.tolist() == [34.0, 54.0]
    assert [one.passed for one in arm.outcomes] == [1.0, 0.0]
    with pytest.raises(ValueError, match="other requests"):
        stored(tmp_path, "nowait", nobody, "observe", 1, puzzles, 2)
    with pytest.raises(ValueError, match="other requests"):
        stored(tmp_path, "nowait", nobody, "nowait", 1, puzzles[:1], 2)
