"""Measures the embedded model's own text, for placebos matched by frequency: `python -m forkpoint_server.demo.measure`.

Writes forkpoint.json beside the weights: how often each token occurs in answers at temperature 1. Beside it,
calibration.json is what `forkpoint calibrate --dry-run --format json --tokens 100000` prints for this model.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from forkpoint_policies.tasks.countdown import Puzzle, held_out, solvable
from forkpoint_server.calibration.token_frequencies import FILE
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.vllm_seam import LLM, SamplingParams

PUZZLES = 400
MAX_TOKENS = 1500


def _puzzles(draw: random.Random) -> list[Puzzle]:
    """As many of three numbers as of four, none of them held out."""
    pools = [[puzzle for puzzle in solvable(size) if not held_out(*puzzle)] for size in (3, 4)]
    return [Puzzle(*chosen) for pool in pools for chosen in draw.sample(pool, PUZZLES // 2)]


def main() -> None:
    llm = LLM(str(WEIGHTS), enforce_eager=True, block_size=32, max_num_seqs=64, kv_cache_memory_bytes=1 << 30)
    messages: list[Any] = [[{"role": "user", "content": puzzle.prompt}] for puzzle in _puzzles(random.Random(1))]
    params = [SamplingParams(temperature=1.0, seed=number, max_tokens=MAX_TOKENS) for number in range(len(messages))]
    answers = [output.outputs[0].token_ids for output in llm.chat(messages, params)]
    counts = Counter(token for answer in answers for token in answer)
    (WEIGHTS / FILE).write_text(json.dumps({"counts": dict(sorted(counts.items()))}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
