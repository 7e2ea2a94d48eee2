"""Calibrations: an invalid one is rejected with its field, and a stored one survives a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS, InputError
from forkpoint_server.calibration.profile import parse_profile, read_own_profile
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.store.calibrations import write_calibration

PROFILE: dict[str, Any] = {
    "model": "m", "fork_threshold": 0.5, "interval": [0.4, 0.6], "share_below_0_01": 0.7, "tokens": 1000,
    "prompts_digest": "ab",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"fork_threshold": -0.1}, "fork_threshold", "greater than or equal to 0"),
        ({"fork_threshold": float("nan")}, "fork_threshold", "finite"),
        ({"fork_threshold": 0.7}, "interval", r"\[0.4, 0.6\] must hold the fork_threshold 0.7"),
        ({"interval": [0.4]}, "interval", r"\[1\] is missing"),
        ({"share_below_0_01": 70}, "share_below_0_01", "less than or equal to 1"),
        ({"tokens": 0}, "tokens", "greater than or equal to 1"),
        ({"created": "2026-01-01"}, "created", "datetime|timezone"),
        ({"threshold": 1}, "threshold", "one can write model, fork_threshold"),
    ],
)
def test_an_invalid_calibration_is_rejected(change: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_profile({**PROFILE, **change})
    assert caught.value.field == field
    with pytest.raises(InputError, match="prompts_digest: is missing"):
        parse_profile({name: value for name, value in PROFILE.items() if name != "prompts_digest"})
    with pytest.raises(InputError, match="must be an object"):
        parse_profile([])


def test_a_calibration_is_stored_under_the_model_and_not_its_alias(database: Engine) -> None:
    first = Threshold(database, "org/model", lambda: ["m"])
    first.read()
    assert (first.nats, first.to_dict()["calibrated"]) == (DEFAULT_FORK_THRESHOLD_NATS, False)
    assert len(first.warnings()) == 1
    with pytest.raises(InputError, match="model: is 'm'; this server keeps the calibration of other"):
        Threshold(database, "org/model", lambda: ["other"]).write(parse_profile(PROFILE))
    first.write(parse_profile(PROFILE))
    assert (first.nats, first.warnings()) == (0.5, [])
    first.write(parse_profile({**PROFILE, "fork_threshold": 0.55}))

    later = Threshold(database, "org/model", lambda: ["renamed"])
    later.read()
    assert later.nats == 0.55
    assert {name: later.to_dict()[name] for name in ("tokens", "interval", "calibrated")} == {
        "tokens": 1000, "interval": [0.4, 0.6], "calibrated": True,
    }  # fmt: skip
    another = Threshold(database, "org/other", lambda: ["m"])
    another.read()
    assert another.nats == DEFAULT_FORK_THRESHOLD_NATS, "another model with the same served name"


def test_a_calibration_of_another_server_is_followed(database: Engine) -> None:
    own, other = (Threshold(database, "org/model", lambda: ["m"]) for _ in range(2))
    own.read()
    assert not own.follow()
    other.write(parse_profile(PROFILE))
    assert own.follow()
    assert own.nats == 0.5
    assert not own.follow()
    write_calibration(database, "org/model", {**PROFILE, "fork_threshold": -1})
    assert not own.follow()
    assert own.nats == 0.5, "what was stored last is not valid"


def test_the_mean_length_is_the_models_own_where_the_calibration_has_none(database: Engine) -> None:
    """Not that of a calibration before it: what `GET /v1/calibration` shows is what policies are compiled with."""
    own = parse_profile({**PROFILE, "mean_reasoning_tokens": 416.2})
    threshold = Threshold(database, "org/model", lambda: ["m"], own)
    threshold.read()
    assert threshold.mean_reasoning_tokens == threshold.to_dict()["mean_reasoning_tokens"] == 416.2
    threshold.write(parse_profile({**PROFILE, "mean_reasoning_tokens": 98.5}))
    assert threshold.mean_reasoning_tokens == threshold.to_dict()["mean_reasoning_tokens"] == 98.5
    threshold.write(parse_profile(PROFILE))
    assert threshold.mean_reasoning_tokens == threshold.to_dict()["mean_reasoning_tokens"] == 416.2


def test_the_embedded_model_has_one_of_its_own(database: Engine) -> None:
    own = read_own_profile(WEIGHTS)
    assert own is not None
    assert own.tokens > 100_000
    threshold = Threshold(database, str(WEIGHTS), lambda: ["my-name"], own)
    threshold.read()
    assert (threshold.nats, threshold.warnings()) == (own.fork_threshold, [])
    shown = threshold.to_dict()
    assert (shown["calibrated"], shown["model"], shown["tokens"]) == (True, "my-name", own.tokens)
    threshold.write(parse_profile({**PROFILE, "model": "my-name"}))
    assert threshold.nats == 0.5, "a stored one is used in its place"


def test_a_folder_without_one_and_with_a_wrong_one(tmp_path: Path) -> None:
    assert read_own_profile(tmp_path) is None
    (tmp_path / "calibration.json").write_text(json.dumps({**PROFILE, "tokens": 0}))
    with pytest.raises(InputError, match="tokens"):
        read_own_profile(tmp_path)
