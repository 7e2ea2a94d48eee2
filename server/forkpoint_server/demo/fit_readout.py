"""Fits the embedded model's readout `correct`: `python -m forkpoint_server.demo.fit_readout`.

The model answers puzzles of three and four numbers at temperature 1. The states at the full stops of its reasoning are
labelled by whether its answer is right. It is fitted and calibrated on puzzles of the model's training, and its
separation is measured on hard puzzles that are held out of both. Writes vectors/correct.safetensors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from forkpoint_policies.hidden.artefact import SUFFIX, Artefact, Model
from forkpoint_policies.hidden.fit_readout import fit_direction, fit_readout
from forkpoint_policies.hidden.separation import LabelledStates, separation
from forkpoint_policies.tasks.countdown import Puzzle, held_out, held_out_puzzles, is_correct, solvable
from forkpoint_server.demo import VECTORS, WEIGHTS

FITTED, HELD_OUT = 240, 160
CALIBRATION_SHARE = 0.25
MAX_TOKENS = 400
BATCH = 80
THRESHOLD = 0.85


def collect(puzzles: Sequence[Puzzle], model: Any, tokenizer: Any) -> LabelledStates:
    """The labelled states of an answer to each puzzle. One that is not complete after MAX_TOKENS is wrong."""
    end = tokenizer.convert_tokens_to_ids("</think>")
    stops = {token for token in range(len(tokenizer)) if tokenizer.decode([token]).endswith(".")}
    states, right, question = [], [], []
    for first in range(0, len(puzzles), BATCH):
        asked = puzzles[first : first + BATCH]
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": one.prompt}], tokenize=False, add_generation_prompt=True
            )
            for one in asked
        ]
        prompts = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            whole = model.generate(**prompts, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=MAX_TOKENS)
        length = prompts["input_ids"].shape[1]
        for number, puzzle in enumerate(asked):
            pad = int((prompts["attention_mask"][number] == 0).sum())
            answer = whole[number, length:].tolist()
            reasoning = answer[: answer.index(end)] if end in answer else answer
            text = tokenizer.decode(answer[len(reasoning) + 1 :], skip_special_tokens=True)
            with torch.no_grad():
                found = model(whole[number : number + 1, pad : length + len(reasoning)], output_hidden_states=True)
            own = found.hidden_states[-1][0, length - pad :].double().numpy()
            places = [place for place, token in enumerate(reasoning) if token in stops]
            states.append(own[places])
            right += [is_correct(puzzle, text)] * len(places)
            question += [first + number] * len(places)
    return LabelledStates(np.concatenate(states), np.array(right), np.array(question))


def main() -> None:
    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(WEIGHTS, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    draw = random.Random(2)
    pools = [[puzzle for puzzle in solvable(size) if not held_out(*puzzle)] for size in (3, 4)]
    own = collect([Puzzle(*one) for pool in pools for one in draw.sample(pool, FITTED // 2)], model, tokenizer)
    test = collect(held_out_puzzles("hard", HELD_OUT), model, tokenizer)
    shuffled = np.random.default_rng(0).permutation(FITTED)
    calibrated = int(FITTED * CALIBRATION_SHARE)
    train, calibration = own.of(shuffled[calibrated:]), own.of(shuffled[:calibrated])
    readout = fit_readout(train, calibration)
    found = separation(readout.weight, train, test, fit_direction, LabelledStates.shuffled_over_questions)
    print(
        f"{len(train.label)} states fitted ({train.label.mean():.0%} right), {len(calibration.label)} calibrated, "
        f"{len(test.label)} of {HELD_OUT} held-out hard puzzles ({test.label.mean():.0%} right)"
    )
    print(
        f"held-out AUC {found.fitted:.3f}; random directions {found.random_direction:.3f}; shuffled labels "
        f"{found.shuffled_labels:.3f} (p = {found.p_value:.3f})"
    )
    probability = 1 / (1 + np.exp(-readout.numbers(test.states)))
    for low in np.arange(0.0, 1.0, 0.2):
        chosen = (probability >= low) & (probability < low + 0.2)
        if chosen.any():
            print(f"said {low:.1f} to {low + 0.2:.1f}: {test.label[chosen].mean():.2f} right of {chosen.sum()}")
    artefact = Artefact(
        kind="readout",
        model=Model(model.config.architectures[0], model.config.hidden_size),
        tensors={"weight": readout.weight.astype(np.float32), "bias": np.array(readout.bias, np.float32)},
        fitted=f"shrunken linear discriminant at the full stops of {FITTED} answers, labelled right or wrong",
        trained_on="countdown",
        source="arXiv:2504.05419",
        suggested=THRESHOLD,
        output="probability",
    )
    VECTORS.mkdir(exist_ok=True)
    (VECTORS / f"correct{SUFFIX}").write_bytes(artefact.raw)


if __name__ == "__main__":
    main()
