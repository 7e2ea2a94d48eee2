"""The readouts of a worker's requests: numbers computed from the last layer's state at each row.

Sums are taken in float64 and in a fixed order, by halves, so that a state gives the same bits alone and in any batch,
on any device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .artefact import Artefact


def fixed_order_sum(terms: Tensor) -> Tensor:
    """The sums of [..., n] over the last dimension: the second half is added to the first until one number is left."""
    while (size := terms.shape[-1]) > 1:
        half = (size + 1) // 2
        first, second = terms[..., :half], terms[..., half:]
        terms = torch.cat((first[..., : size - half] + second, first[..., size - half :]), dim=-1)
    return terms[..., 0]


def logistic(number: float) -> float:
    """1 / (1 + e^-x), for any number."""
    return 1 / (1 + math.exp(-number)) if number > -700 else 0.0


@dataclass(frozen=True, eq=False)
class Readout:
    """A readout's tensors on the worker's device, in float64."""

    digest: str
    is_probability: bool
    tensors: dict[str, Tensor]

    @staticmethod
    def of(artefact: Artefact, device: torch.device) -> Readout:
        tensors = {name: torch.from_numpy(array).double().to(device) for name, array in artefact.tensors.items()}
        return Readout(artefact.digest, artefact.output == "probability", tensors)

    def values(self, states: Tensor) -> list[float]:
        """The readout of each of the [n, D] states."""
        own, wide = self.tensors, states.double()
        if "weight" in own:
            numbers = fixed_order_sum(wide * own["weight"]) + own["bias"]
        else:  # row by row: all at once would take n · U · D numbers
            inner = torch.stack([fixed_order_sum(row * own["w1"]) for row in wide]) + own["b1"]
            numbers = fixed_order_sum(inner.clamp(min=0) * own["w2"]) + own["b2"]
        found: list[float] = numbers.tolist()  # on the host: functions such as exp differ between devices
        return [logistic(number) for number in found] if self.is_probability else found


def read_out(of_rows: Sequence[Sequence[Readout | None]], states: Tensor, columns: int) -> list[list[float]]:
    """Of each row, the values of its request's readouts at its [D] state, NaN behind them and for missing ones."""
    found = [[math.nan] * columns for _ in of_rows]
    rows_of: dict[str, list[tuple[int, int]]] = {}
    readouts: dict[str, Readout] = {}
    for row, own in enumerate(of_rows):
        for column, readout in enumerate(own):
            if readout is not None:
                readouts[readout.digest] = readout
                rows_of.setdefault(readout.digest, []).append((row, column))
    for digest, places in rows_of.items():
        rows = torch.tensor([row for row, _ in places]).to(states.device)
        for (row, column), value in zip(places, readouts[digest].values(states.index_select(0, rows)), strict=True):
            found[row][column] = value
    return found
