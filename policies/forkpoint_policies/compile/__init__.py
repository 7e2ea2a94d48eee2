"""A policy compiled for a served model's vocabulary: numpy, no torch."""
