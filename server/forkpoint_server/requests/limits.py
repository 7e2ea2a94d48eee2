"""Limits of requests that arguments of the server set. Imports nothing, so that arguments are checked at once."""

MAX_TRACE_TOKENS = 2_000_000
"""The default memory for traces of recent requests, in tokens (see `recent.TOKEN_BYTES`)."""
