"""Fitting readouts and vectors to the hidden states of a served model, on a running server."""
