"""Train the embedded model from nothing: `python -m forkpoint_server.demo.train --out FOLDER`.

A Qwen3 of under two million parameters, on traces sampled by `corpus.py`. The committed weights were made in three
runs, in about 80 minutes on two CPU cores, while the corpus was being improved; run again, they give a similar model,
not the same bits:

    python -m forkpoint_server.demo.train --out A --traces 240000 --seed 1
    python -m forkpoint_server.demo.train --out B --traces 72000 --seed 2 --start A --learning-rate 1.5e-3
    python -m forkpoint_server.demo.train --out C --traces 48000 --seed 3 --start B --learning-rate 1.5e-3

After the first run (traces of up to 512 tokens, no `corpus.FALSE_HOPE`) 83 % of the easy puzzles were solved; after
the second, with false hopes, 97 %, and 28 % of the hard ones; after the third, with traces of up to 1,024 tokens,
100 % and 57 %.
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from forkpoint_policies.tasks.countdown import Puzzle, held_out, solvable

from .corpus import draw_trace
from .tokenizer import for_serving, train_tokenizer

EASY_SHARE = 0.5
LONGEST = 1024  # tokens; the few longer traces are left out
BUCKETS = (64, 80, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
BATCH_TOKENS = 2048
LEARNING_RATE = 3e-3
WARM_UP_STEPS = 150
ATTENTION = "eager"  # CPU flash attention is slower at these sizes

Piece = tuple[str, bool]


def draw_texts(count: int, seed: int) -> list[list[Piece]]:
    """Whole conversations as pieces of (text, whether to learn it); only puzzles that are not held out."""
    draw = random.Random(seed)
    pools = [[puzzle for puzzle in solvable(size) if not held_out(*puzzle)] for size in (3, 4)]
    texts: list[list[Piece]] = []
    for _ in range(count):
        numbers, target = draw.choice(pools[0] if draw.random() < EASY_SHARE else pools[1])
        puzzle = Puzzle(tuple(draw.sample(numbers, len(numbers))), target)
        trace = draw_trace(puzzle, draw)
        prompt = f"<|im_start|>user\n{puzzle.prompt}<|im_end|>\n<|im_start|>assistant\n<think>"
        texts.append([(prompt, False), *trace.pieces, (f"</think>{trace.answer}<|im_end|>", True)])
    return texts


def _draw_texts(arguments: tuple[int, int]) -> list[list[Piece]]:
    return draw_texts(*arguments)


def encode(tokenizer: PreTrainedTokenizerFast, text: list[Piece]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and the labels: -100 where nothing is to be learnt."""
    ids: list[int] = []
    labels: list[int] = []
    for piece, learn in text:
        tokens: list[int] = tokenizer.encode(piece, add_special_tokens=False)
        ids += tokens
        labels += tokens if learn else [-100] * len(tokens)
    return ids, labels


def batches(
    examples: list[tuple[list[int], list[int]]], pad: int, draw: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of a few fixed shapes [rows, bucket] in random order: varying shapes cost a third of the CPU speed."""
    buckets: dict[int, list[tuple[list[int], list[int]]]] = {bucket: [] for bucket in BUCKETS}
    for example in examples:
        if len(example[0]) <= LONGEST:
            buckets[next(bucket for bucket in BUCKETS if len(example[0]) <= bucket)].append(example)
    groups = []
    for bucket, members in buckets.items():
        draw.shuffle(members)
        rows = BATCH_TOKENS // bucket
        groups += [(bucket, members[i : i + rows]) for i in range(0, len(members) - rows + 1, rows)]
    draw.shuffle(groups)
    for bucket, members in groups:
        ids = torch.full((len(members), bucket), pad)
        labels = torch.full((len(members), bucket), -100)
        for row, (tokens, targets) in enumerate(members):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, : len(targets)] = torch.tensor(targets)
        yield ids, labels


def build_model(vocabulary: int, end: int) -> Qwen3ForCausalLM:
    """The architecture: head counts and vocabulary divide by two, so that tensor parallelism can be tried on it."""
    config = Qwen3Config(
        vocab_size=math.ceil(vocabulary / 64) * 64,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=0,
    )
    model: Qwen3ForCausalLM = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    return model


def train(out: Path, traces: int, seed: int, start: Path | None, learning_rate: float) -> None:
    """Sample the corpus, train on it in one pass from scratch or from `start`; save model and tokenizer to `out`."""
    torch.manual_seed(seed)
    started = time.monotonic()
    workers = os.cpu_count() or 1
    shards = 32
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        sampled = pool.map(_draw_texts, [(traces // shards, seed * shards + shard) for shard in range(shards)], 1)
    texts = [text for shard in sampled for text in shard]
    if start is None:
        tokenizer = for_serving(train_tokenizer("".join(piece for piece, _ in text) for text in texts[:20_000]))
        model = build_model(len(tokenizer), tokenizer.eos_token_id)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
        model = Qwen3ForCausalLM.from_pretrained(start, dtype=torch.float32, attn_implementation=ATTENTION)
    model.train()
    examples = [encode(tokenizer, text) for text in texts]
    steps = list(batches(examples, tokenizer.pad_token_id, random.Random(seed)))
    learnt = sum(int((labels != -100).sum()) for _, labels in steps)
    seconds = time.monotonic() - started
    print(
        f"{len(texts)} traces sampled in {seconds:.0f} s: {len(steps)} steps, {learnt / 1e6:.1f} M learnt tokens",
        flush=True,
    )

    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )

    def schedule(step: int) -> float:
        if step < WARM_UP_STEPS:
            return (step + 1) / WARM_UP_STEPS
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / len(steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    started, tokens, recent = time.monotonic(), 0, 0.0
    for number, (ids, labels) in enumerate(steps, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        keep = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(logits[:, :-1][keep].float(), labels[:, 1:][keep])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        tokens += ids.numel()
        recent += loss.item()
        if number % 100 == 0:
            speed = tokens / (time.monotonic() - started)
            print(f"step {number}/{len(steps)}  loss {recent / 100:.4f}  {speed:.0f} tokens/s", flush=True)
            recent = 0.0
        if number % 2000 == 0:
            save(model, tokenizer, out)
    save(model, tokenizer, out)
    print(f"trained in {(time.monotonic() - started) / 60:.0f} min, saved to {out}", flush=True)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the folder that vLLM serves: weights in bfloat16, configuration, tokenizer with its chat template."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)  # type: ignore[arg-type]
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train Forkpoint's embedded model on a CPU.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--traces", type=int, default=200_000, help="how many traces to draw and learn (default 200000)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="go on from the model in this folder")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    arguments = parser.parse_args()
    train(arguments.out, arguments.traces, arguments.seed, arguments.start, arguments.learning_rate)


if __name__ == "__main__":
    main()
