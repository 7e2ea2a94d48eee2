"""The served model's fork threshold: from its stored calibration, else its folder's, else another model's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS, InputError
from forkpoint_server.store.calibrations import read_calibration, write_calibration

from .profile import EntropyProfile, parse_profile

logger = logging.getLogger(__name__)

NOT_CALIBRATED = (
    f"this model's fork threshold is not calibrated; {DEFAULT_FORK_THRESHOLD_NATS} nats is used, that of another model "
    "(forkpoint calibrate measures it)"
)


class Threshold:
    """The fork threshold in use; it changes only when a calibration is stored.

    `model` is the path or repository, by which calibrations are stored: a served name may mean another model later.
    `names` returns the names under which the model is served now. `own` is the calibration in the model's folder, used
    until one is stored.
    """

    def __init__(
        self,
        database: Engine,
        model: str,
        names: Callable[[], Sequence[str]],
        own: EntropyProfile | None = None,
    ) -> None:
        self._database = database
        self._model = model
        self.names = names
        self._own = own
        self.profile: EntropyProfile | None = own

    def read(self) -> None:
        """Load the stored calibration, if there is one. Raises InputError if it is invalid."""
        stored = read_calibration(self._database, self._model)
        self.profile = self._own if stored is None else parse_profile(stored)

    def follow(self) -> bool:
        """Load the calibration if another server has stored one; whether it has. An invalid one changes nothing."""
        before = self.profile
        try:
            self.read()
        except InputError as error:
            logger.warning("a calibration that was stored elsewhere cannot be used: %s", error)
        return self.profile != before

    def write(self, profile: EntropyProfile) -> None:
        """Store and use a calibration. Raises InputError if it is another model's."""
        names = self.names()
        if profile.model not in names:
            raise InputError("model", f"is {profile.model!r}; this server keeps the calibration of {', '.join(names)}")
        write_calibration(self._database, self._model, profile.model_dump(mode="json"))
        self.profile = profile

    @property
    def nats(self) -> float:
        return DEFAULT_FORK_THRESHOLD_NATS if self.profile is None else self.profile.fork_threshold

    @property
    def mean_reasoning_tokens(self) -> float | None:
        """The mean length of the model's reasoning: by the stored calibration, else by the model's folder."""
        means = (None if profile is None else profile.mean_reasoning_tokens for profile in (self.profile, self._own))
        return next((mean for mean in means if mean is not None), None)

    def warnings(self) -> list[str]:
        """Warnings for the user about the threshold."""
        return [NOT_CALIBRATED] if self.profile is None else []

    def to_dict(self) -> dict[str, Any]:
        """The response of `GET /v1/calibration`."""
        if self.profile is not None:
            measured = self.profile.model_dump(mode="json")
            if self.profile is self._own:
                measured["model"] = self.names()[0]  # it may be served under another name than when it was measured
        else:
            measured = {"model": self.names()[0], "fork_threshold": self.nats, "warning": NOT_CALIBRATED}
        mean = self.mean_reasoning_tokens
        calibrated = self.profile is not None
        return {"object": "calibration", "calibrated": calibrated, **measured, "mean_reasoning_tokens": mean}
