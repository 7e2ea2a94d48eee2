"""The cost of reading and changing hidden states: a server without hooks and one with them, beside stock vLLM."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from forkpoint_server.cli import DEMO_ARGUMENTS
from forkpoint_server.demo import WEIGHTS

from .arms import COLUMNS, Arm, Load, Plan, compare
from .model import CONFIG, write_qwen
from .servers import beside_stock
from .serving_tables import NOTES, demo_loads, qwen_arguments, qwen_loads
from .tables import Table

DEMO_CONCURRENCY, QWEN_CONCURRENCY = (64,), (8, 32)
IDLE_GOAL, READ_GOAL, STEER_GOAL = 0.99, 0.95, 0.97
VECTOR, READOUT = "drift", "verdict"
READ, STEER = "read-every-token", "steer-every-token"
POLICIES: dict[str, list[dict[str, Any]]] = {
    READ: [
        {"when": {"readout_above": {"name": READOUT, "value": 0.0}}, "do": {"observe": {}}},
        {"when": {"effective_rank_velocity_above": 0, "rank_window": 64, "rank_stride": 16}, "do": {"observe": {}}},
    ],
    STEER: [{"do": {"steer": {"vector": VECTOR, "scale": 0.001}}}],
}
"""The scale is too small to change an answer's length, and costs what any other costs."""
STATE_NOTES = (
    *NOTES,
    "`without hooks`: a Forkpoint without `--hidden-layers`. All other arms but stock: one with a hook in the middle.",
    f"`{READ}`: a readout at each token, and the effective rank of the last 64 states at each 16th.",
    f"`{STEER}`: a vector added to the layer's output at each token. Its prompts are not taken from the prefix cache.",
)


def demo(plan: Plan, concurrency: Sequence[int]) -> Table:
    """The embedded model, to which everything but the model costs most."""
    config = json.loads((WEIGHTS / "config.json").read_text())
    loads = demo_loads(concurrency or DEMO_CONCURRENCY)
    return _table("states-demo", "hidden states of the embedded model", config, DEMO_ARGUMENTS, loads, plan)


def qwen(plan: Plan, concurrency: Sequence[int]) -> Table:
    """The shape of Qwen3-0.6B, compiled."""
    at_once = concurrency or QWEN_CONCURRENCY
    with tempfile.TemporaryDirectory() as folder:
        arguments = (str(write_qwen(Path(folder) / "model")), *qwen_arguments(max(at_once)))
        title = "hidden states of Qwen3-0.6B's shape with random weights"
        return _table("states-qwen", title, CONFIG, arguments, qwen_loads(at_once), plan)


def _table(
    name: str, title: str, config: dict[str, Any], arguments: Sequence[str], loads: Sequence[Load], plan: Plan
) -> Table:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hooks = _hooks(folder, config)
        own = (arguments, [*arguments, *hooks])
        with beside_stock(folder, ["--model", *arguments], *own) as (stock, without_hooks, hooked):
            arms = [
                Arm("stock", stock),
                Arm("without hooks", without_hooks, goal=IDLE_GOAL),
                Arm("with hooks, no policy", hooked, goal=IDLE_GOAL),
                Arm(READ, hooked, (READ,), READ_GOAL),
                Arm(STEER, hooked, (STEER,), STEER_GOAL),
                Arm("stock, again", stock),
            ]
            rows = [row for load in loads for row in compare(load, arms, plan)]
    return Table(name, title, COLUMNS, rows, STATE_NOTES)


def _hooks(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """The arguments that hook the layer in the middle; policies, a vector and a readout with random values."""
    (vectors := folder / "vectors").mkdir()
    (policies := folder / "policies").mkdir()
    size, layer = config["hidden_size"], config["num_hidden_layers"] // 2
    random = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(2, size, generator=random))
    common = {"architecture": config["architectures"][0], "hidden_size": str(size), "fitted": "random values"}
    save_file({f"layer.{layer}": direction[0].clone()}, vectors / f"{VECTOR}.safetensors", {**common, "kind": "vector"})
    save_file(
        {"weight": direction[1].clone(), "bias": torch.zeros(())},
        vectors / f"{READOUT}.safetensors",
        {**common, "kind": "readout", "output": "number"},
    )
    for name, rules in POLICIES.items():  # JSON is YAML
        (policies / f"{name}.yaml").write_text(json.dumps({"name": name, "rules": rules}))
    return ("--hidden-layers", str(layer), "--vectors", str(vectors), "--policies", str(policies))
