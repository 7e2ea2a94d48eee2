"""ASGI middlewares around vLLM's app: one concern each."""
