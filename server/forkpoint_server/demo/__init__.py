"""The embedded model: a very small reasoner that plays Countdown, its corpus and its training."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
READOUTS = Path(__file__).parent / "readouts"
SERVED_NAME = "countdown"
