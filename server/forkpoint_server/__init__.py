"""The Forkpoint server: vLLM's OpenAI-compatible server with a policy for each request."""

from importlib.metadata import version

__version__ = version("forkpoint-server")
