"""Trees of a server that changes hidden states: each of their requests is the model with the changes of its path."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.engine.steered import Logprobs, Reference, vector_of
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving

MESSAGES: list[Any] = [{"role": "user", "content": held_out_puzzles("hard", 4)[2].prompt}]
CALM = vector_of(seed=1, layers=(1, 2))
SCALE, FORK_NATS, TOLERANCE_NATS = -2.0, 0.3, 1e-4
ROUNDING_NATS = 1e-5
"""Of the entropies of a trace."""

Changed = tuple[Collection[int], Collection[int]]
"""The tokens of an answer that are read with the vector, and those for which layer 2 is run again."""


@dataclass(frozen=True)
class Changes:
    """A rule, and what it changes where its condition is known to hold: of an answer's evaluated positions, with their
    entropies."""

    rules: list[dict[str, Any]]
    changed: Callable[[Mapping[int, float]], Changed]


def _at_forks(entropies: Mapping[int, float]) -> Changed:
    at = [position for position, nats in entropies.items() if nats > FORK_NATS]
    return {one + ahead for one in at for ahead in range(3)}, ()


def _here(entropies: Mapping[int, float]) -> Changed:
    at = [position for position in entropies if position and position % 8 == 0]
    return {one + ahead for one in at for ahead in (-1, 0)}, ()


def _again(entropies: Mapping[int, float]) -> Changed:
    here = {position - 1 for position in entropies if position and position % 8 == 0}
    return (), here | {position for position, nats in entropies.items() if nats > FORK_NATS}


STEER = {"vector": "calm", "scale": SCALE}
CHANGES = {
    "steering": Changes(
        [{"when": {"entropy_above": FORK_NATS}, "do": {"steer": {**STEER, "tokens": 3}}}], _at_forks
    ),
    "steering from here": Changes(
        [{"when": {"every": 8}, "do": {"steer": {**STEER, "tokens": 2, "from": "here"}}}], _here
    ),
    "recycling": Changes(
        [
            {"when": {"entropy_above": FORK_NATS}, "do": {"recycle": {"layer": 2}}},
            {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "here"}}},
        ],
        _again,
    ),
}  # fmt: skip
TREES: dict[str, dict[str, Any]] = {
    "branches": {"when": {"entropy_above": FORK_NATS}, "do": {"branch": {"depth": 2, "min_gap": 9}}},
    "probes": {
        "when": {"every": 20, "region": "reasoning"},
        "do": {"probe": {"place": "reasoning", "text": " So the answer is ", "tokens": 6, "agreement": 9}},
    },
    "resumed": {"do": {"resume": {"text": " Wait, so", "base_tokens": 45, "tokens": 30, "times": 2}}},
    "samples": {"do": {"sample": {"answers": 3}}},
}


@pytest.fixture(scope="module", params=["--enable-prefix-caching", "--no-enable-prefix-caching"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trees")
    vectors = folder / "vectors"
    vectors.mkdir()
    (vectors / "calm.safetensors").write_bytes(CALM.raw)
    with serving(
        folder, "--hidden-layers", "1,2", "--recycle-layers", "2", "--vectors", str(vectors), "--dtype", "float32",
        "--enforce-eager", request.param, environment=ONE_PROCESS,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def trace_of(server: Server, rules: list[dict[str, Any]], **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The response, and its trace."""
    sent = {
        "model": "countdown", "messages": MESSAGES, "temperature": 1.0, "seed": 5, "max_tokens": 160, "logprobs": True,
        "policy": {"rules": rules}, **body,
    }  # fmt: skip
    response = httpx.post(f"{server.api}/chat/completions", json=sent, timeout=300)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    trace: dict[str, Any] = httpx.get(f"{server.api}/forks/{found['id']}", timeout=60).raise_for_status().json()
    return found, trace


def path_of(trace: dict[str, Any], number: int) -> tuple[list[int], dict[int, float]]:
    """The tokens of a node's whole answer, and the entropies at the positions that were evaluated."""
    node, own = trace["tree"]["nodes"][number], trace["choices"][number]
    tokens, entropies = list[int](), dict[int, float]()
    if node["parent"] is not None:
        tokens, entropies = path_of(trace, node["parent"])
        tokens = [*tokens[: node["position"]], *node["token_ids"]]
        until = node["position"] + bool(node["token_ids"])  # its parent has evaluated that of its first token
        entropies = {position: nats for position, nats in entropies.items() if position < until}
    measured = dict(zip(own["positions"], own["entropies"], strict=True))
    return [*tokens, *own["token_ids"]], {**entropies, **measured}


def expected(reference: Reference, prompt: list[int], tokens: list[int], changed: Changed) -> Logprobs:
    vectors = {layer: (SCALE * CALM.tensors[f"layer.{layer}"]).astype(np.float32) for layer in (1, 2)}
    steered, again = ({at for at in one if at < len(tokens)} for one in changed)
    return reference.logprobs(prompt, tokens, dict.fromkeys(steered, vectors), {2: sorted(again)} if again else {})


def farthest(logprobs: Logprobs, entropies: Mapping[int, float], first: int) -> float:
    """How far the entropies from a position on are from those measured, at most."""
    found: list[float] = (-(np.exp(logprobs) * logprobs).sum(axis=1)).tolist()
    return max(abs(found[at] - nats) for at, nats in entropies.items() if first <= at < len(found))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tree", TREES)
def test_every_request_of_a_tree_is_the_model_with_the_changes_of_its_path(
    server: Server, reference: Reference, tree: str, change: str
) -> None:
    changes = CHANGES[change]
    body = {"n": 5} if tree == "branches" else {}
    response, trace = trace_of(server, [TREES[tree], *changes.rules], **body)
    nodes, prompt = trace["tree"]["nodes"], trace["prompts"][0]["token_ids"]
    children = [number for number, node in enumerate(nodes) if node["parent"] is not None]
    assert len(nodes) >= 3
    assert len(children) >= (0 if tree == "samples" else 2)
    seen = []
    for number in range(len(nodes)):
        tokens, entropies = path_of(trace, number)
        if not trace["choices"][number]["token_ids"]:
            continue
        first = trace["choices"][number]["positions"][0]
        found = expected(reference, prompt, tokens, changes.changed(entropies))
        assert farthest(found, entropies, first) < TOLERANCE_NATS + ROUNDING_NATS, nodes[number]
        if number in children:
            own = {position: nats for position, nats in entropies.items() if position >= first}
            unshared = expected(reference, prompt, tokens, changes.changed(own))
            seen.append(farthest(unshared, entropies, first))
    assert not children or max(seen) > 100 * TOLERANCE_NATS, "what they share is read with changes"
    for choice in response["choices"]:
        number = choice["index"] if len(response["choices"]) > 1 else chosen(nodes)
        tokens, entropies = path_of(trace, number)
        found = expected(reference, prompt, tokens, changes.changed(entropies))
        sent = [one["logprob"] for one in choice["logprobs"]["content"]]
        computed = [float(found[at, token]) for at, token in enumerate(tokens)]
        first = trace["choices"][number]["positions"][0]
        assert sent[first:] == pytest.approx(computed[first : len(sent)], abs=TOLERANCE_NATS)


@pytest.mark.parametrize("tree", TREES)
def test_positions_that_are_computed_again_in_a_tree(server: Server, reference: Reference, tree: str) -> None:
    """No request of the tree needs to know of them: what is stored is the model's own."""
    body = {"n": 5} if tree == "branches" else {}
    again = {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "again"}}}
    _, trace = trace_of(server, [TREES[tree], again], **body)
    nodes, prompt = trace["tree"]["nodes"], trace["prompts"][0]["token_ids"]
    assert len(nodes) >= 3
    seen = 0.0
    for number, own in enumerate(trace["choices"]):
        if not own["token_ids"]:
            continue
        tokens, entropies = path_of(trace, number)
        at = {position: 2 for position in entropies if position % 8 == 0 and position < len(tokens)}
        first = own["positions"][0]
        found = reference.drawn_again(prompt, tokens, at)
        assert farthest(found, entropies, first) < TOLERANCE_NATS + ROUNDING_NATS, nodes[number]
        seen = max(seen, farthest(reference.logprobs(prompt, tokens, {}), entropies, first))
    assert seen > 100 * TOLERANCE_NATS


def chosen(nodes: list[dict[str, Any]]) -> int:
    """The node that the response is."""
    (number,) = (number for number, node in enumerate(nodes) if node["chosen"])
    return number
