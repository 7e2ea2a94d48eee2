"""The cost of a tree: tokens computed beside independent samples, prefixes computed again, and a fork's latency."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from forkpoint_policies.tasks.countdown import held_out_puzzles
from forkpoint_server.cli import DEMO_ARGUMENTS
from forkpoint_server.demo import SERVED_NAME
from tests.processes.forkpoint_server import Server, serving

from .tables import Ratio, Row, Table

LEAVES = (2, 4, 8)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
LEAF_TOKENS = 320
MAX_DELAY_STEPS = 3
RESETTABLE = {"VLLM_SERVER_DEV_MODE": "1"}
"""vLLM then lets its prefix cache be emptied."""

COLUMNS = ("samples' tokens ÷ the tree's",)
BLOCK_TOKENS = int(DEMO_ARGUMENTS[DEMO_ARGUMENTS.index("--block-size") + 1])


@dataclass(frozen=True)
class Computed:
    """What the engine computed: prompt tokens that were in no cache, and generated ones."""

    prompt: float
    generated: float

    @property
    def tokens(self) -> float:
        return self.prompt + self.generated


def branching(rounds: int, leaves: Sequence[int]) -> Table:
    """Trees and independent samples, with leaves of the same length, on the embedded model."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), environment=RESETTABLE) as server:
        for count in leaves:
            for share in SHARES:
                position = round(share * LEAF_TOKENS)
                rows.append(_row(server, count, position, rounds))
        delays = _delays(server)
    beyond = sum(delay > MAX_DELAY_STEPS for delay in delays)
    computed = (
        f"Leaves of {LEAF_TOKENS} tokens; the branches start at one position, a share of that. Computed are generated "
        "tokens, and "
        f"prompt tokens that were not in the prefix cache (blocks of {BLOCK_TOKENS})."
    )
    latency = (
        "From a fork to its branch's first token the parent advances by "
        f"{statistics.median(delays):g} tokens in the median (goal: "
        f"at most {MAX_DELAY_STEPS}), {max(delays)} at most, in {len(delays)} branches of 32 trees at once; by more "
        f"than {MAX_DELAY_STEPS} in {beyond / len(delays):.1%}."
    )
    best = "The tree's own best is k ÷ (1 + (k - 1) · (1 - share)), had nothing of the prefix to be computed again."
    notes = [computed, best, latency]
    return Table("branching", "tokens that the engine computes, trees beside independent samples", COLUMNS, rows, notes)


def _row(server: Server, count: int, position: int, rounds: int) -> Row:
    ratios, again = [], []
    for number in range(rounds):
        puzzle = held_out_puzzles("hard", 300)[number]
        body = {"messages": [{"role": "user", "content": puzzle.prompt}], "n": count, "seed": number}
        alone, samples = _computed(server, {**body, "n": 1}), _computed(server, body)
        when = {"after_token": position, "before_token": position + 1}
        branch = {"rules": [{"when": when, "do": {"branch": {"width": count - 1, "depth": 1}}}]}
        tree = _computed(server, {**body, "policy": branch})
        ratios.append(samples.tokens / tree.tokens)
        again.append((tree.prompt - alone.prompt) / (count - 1))
    best = count / (1 + (count - 1) * (1 - position / LEAF_TOKENS))
    recomputed = statistics.mean(again)
    said = "within" if max(again) <= BLOCK_TOKENS else "MORE THAN"
    aside = f"{recomputed:.1f} prefix tokens computed again per branch, {said} one block; at best {best:.2f}"
    return Row(f"{count} leaves, shared {position / LEAF_TOKENS:.0%}", "branch", (Ratio(tuple(ratios)),), 1.0, aside)


def _computed(server: Server, body: dict[str, Any]) -> Computed:
    """Send a request with an empty cache, and return what it took."""
    httpx.post(f"{server.url}/reset_prefix_cache").raise_for_status()
    before = server.metrics()
    fixed = {"model": SERVED_NAME, "temperature": 1.0, "max_tokens": LEAF_TOKENS, "ignore_eos": True}
    answer = httpx.post(f"{server.api}/chat/completions", json={**fixed, **body}, timeout=600).raise_for_status().json()
    if len(answer["choices"]) != body["n"]:
        raise RuntimeError(
            f"{body['n']} leaves were requested, {len(answer['choices'])} came: {answer.get('forkpoint')}"
        )
    after = server.metrics()

    def more(name: str) -> float:
        return sum(value - before.get(key, 0.0) for key, value in after.items() if key.startswith(name))

    cached = more("vllm:prefix_cache_hits_total")
    return Computed(more("vllm:prompt_tokens_total") - cached, more("vllm:generation_tokens_total"))


def _delays(server: Server) -> list[int]:
    """How far the parents advanced until their branches' first tokens, with 32 trees at once."""

    def grow(number: int) -> list[int]:
        messages = [{"role": "user", "content": held_out_puzzles("hard", 300)[number].prompt}]
        body = {
            "model": SERVED_NAME,
            "messages": messages,
            "policy": "branch-at-forks",
            "n": 8,
            "max_tokens": 400,
            "seed": number,
        }
        answer = httpx.post(f"{server.api}/chat/completions", json=body, timeout=600).raise_for_status().json()
        nodes = httpx.get(f"{server.api}/forks/{answer['id']}").raise_for_status().json()["tree"]["nodes"]
        return [node["delay"] for node in nodes if node["delay"] is not None]

    with ThreadPoolExecutor(32) as pool:
        return [delay for delays in pool.map(grow, range(64)) for delay in delays]
