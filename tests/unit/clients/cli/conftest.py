"""Commands whose requests go to a stub transport."""

from __future__ import annotations

import httpx2
import openai
import pytest

from forkpoint_clients import client
from tests.unit.clients.test_client import Requests, transport


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """The requests of commands, which a transport answers as a server would."""
    found: Requests = []

    def start(self: client.Forkpoint, *, base_url: str, api_key: str) -> None:
        openai.OpenAI.__init__(
            self,
            base_url=base_url,
            api_key=api_key,
            http_client=httpx2.Client(transport=transport(found)),
            max_retries=0,
        )

    monkeypatch.setattr(client.Forkpoint, "__init__", start)
    monkeypatch.setenv("COLUMNS", "200")
    return found
