"""What commands say while a server does not answer, by the SDK's own retries."""

from __future__ import annotations

import socket

import openai
import pytest

from forkpoint_clients.cli.progress import SDK, waiting_lines


def test_retries_of_the_sdk_are_said_once_in_a_while() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"  # bound, and not listening: connections are refused
        said: list[str] = []
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=2)
        level = SDK.level
        with waiting_lines(said.append, url), pytest.raises(openai.APIConnectionError):
            client.models.list()
        assert said == [f"waiting for {url} (try 2 of 3)"]
        assert (SDK.level, SDK.handlers) == (level, [])
