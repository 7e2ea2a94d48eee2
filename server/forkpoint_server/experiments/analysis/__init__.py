"""The statistics of an experiment: sums in, verdicts with intervals out; no database and no HTTP."""
