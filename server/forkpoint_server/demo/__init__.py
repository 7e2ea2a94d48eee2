"""The embedded model: a very small reasoner that plays Countdown, its corpus and its training."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
VECTORS = Path(__file__).parent / "vectors"
"""The folder of its vectors and readouts."""
SERVED_NAME = "countdown"
