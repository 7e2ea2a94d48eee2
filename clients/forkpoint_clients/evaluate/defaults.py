"""Defaults that options show, apart from the modules that use them, which take a second to import."""

RETRIES = 7
"""Retries of one question. The SDK waits 0.5 s, then twice as long up to 8 s: half a minute before it gives up."""

DOSE_ANSWERS = 16
"""The calibration answers for each strength that is tried for a placebo."""
