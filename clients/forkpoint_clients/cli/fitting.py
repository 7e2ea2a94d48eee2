"""The options that `forkpoint readout fit` and `forkpoint steer fit` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forkpoint_clients.evaluate import datasets

AT_SENTENCE_ENDS = '{"region": "reasoning", "previous": {"endings": [".", "\\n\\n"]}}'

Data = Annotated[str, typer.Option("--data", help=datasets.SOURCES)]
Questions = Annotated[int, typer.Option("--questions", min=8, help="how many")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="answers to each question")]
At = Annotated[
    str, typer.Option("--at", metavar="WHEN", help="where states are read: a condition as in a policy, as JSON")
]
HeldOut = Annotated[
    float, typer.Option("--held-out", min=0.1, max=0.8, help="the share of questions that are only measured on")
]
Placebos = Annotated[
    int, typer.Option("--placebos", min=20, help="how many random directions, and fits to shuffled labels")
]
Source = Annotated[str, typer.Option("--source", help="for the file: a paper or a URL")]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, max=2.0)]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="the longest answer; without it as long as the model can")
]
Seed = Annotated[int, typer.Option("--seed", help="of the questions, the answers and the split")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="the file to write; NAME.safetensors without it")
]
Store = Annotated[bool, typer.Option("--store", help="store it on the server, too")]
ServedModelName = Annotated[
    str | None, typer.Option("--model", help="the model; without it the first that the server lists")
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, max=512, help="questions at once")]
