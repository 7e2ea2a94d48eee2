"""Forkpoint's own routes, beside vLLM's."""
