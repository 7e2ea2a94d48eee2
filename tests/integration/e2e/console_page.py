"""The console's pages beside the playground, as a person reaches them."""

from __future__ import annotations

from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.processes.forkpoint_server import Server

PROMPT = "Use 3, 7, 2 to make 17."


def visit_page(page: Page, server: Server, name: str, query: str = "") -> None:
    page.goto(f"{server.url}/forkpoint#/{name}{query}")
    expect(page.locator("#served")).not_to_be_empty()
    expect(page.locator("#content")).to_have_attribute("aria-busy", "false")
    expect(page.locator(f"#page-{name} h1")).to_be_visible()


def generate(server: Server, **more: Any) -> str:
    """Send a request; its response's id."""
    body = {"model": "countdown", "messages": [{"role": "user", "content": PROMPT}], "seed": 1, "max_tokens": 40}
    response = httpx.post(f"{server.api}/chat/completions", json={**body, "forks": True, **more}, timeout=60)
    found: str = response.raise_for_status().json()["id"]
    return found


def long_trace(num_tokens: int) -> dict[str, Any]:
    """A trace of this length in the format of `GET /v1/forks/{id}`: every fifth token a fork, lines of 40 tokens."""
    words = [" so", " we", " add", " 7", " and", " try", " 3", " then"]
    tokens = ["\n" if place % 40 == 39 else words[place % len(words)] for place in range(num_tokens)]
    forks = range(0, num_tokens, 5)
    entropies = [1.5 if place % 5 == 0 else 0.1 for place in range(num_tokens)]
    alternatives = [
        {"token": word, "token_id": number, "bytes": list(word.encode()), "probability": 0.2, "possible": True}
        for number, word in enumerate(words[:5])
    ]
    points = [
        {
            "choice": 0, "index": place, "token": tokens[place], "token_id": place % len(words), "entropy": 1.5,
            "connector": None, "alternatives": alternatives, "action": None, "effect": 0.0,
        }
        for place in forks
    ]  # fmt: skip
    ids = [place % len(words) for place in range(num_tokens)]
    choice = {
        "index": 0, "prompt": 0, "begun": 0, "told": 0, "token_ids": ids,
        "tokens": tokens, "token_bytes": {}, "positions": list(range(num_tokens)), "entropies": entropies,
        "in_reasoning": [True] * num_tokens, "actions": [[] for _ in tokens],
    }  # fmt: skip
    return {
        "id": "long", "object": "trace", "policy": None, "digest": None, "shadow": False, "threshold": 0.7,
        "prompts": [{"token_ids": [1, 2], "text": "prompt"}], "stop_token_ids": [2], "choices": [choice],
        "fork_points": points, "intervention_points": [], "tree": None, "forkpoint": {"complete": True},
    }  # fmt: skip
