"""ASGI middlewares in front of vLLM's handlers, behind its authentication: one concern each."""
