"""The statistics of an experiment: plain numbers in, verdicts with intervals out; no database and no HTTP."""
