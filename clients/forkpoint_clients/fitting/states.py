"""The hidden states of an answer, as a server reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openai
from numpy.typing import NDArray
from openai import HttpxBinaryResponseContent
from safetensors import SafetensorError
from safetensors.numpy import load

from forkpoint_clients.evaluate.asker import Asker, ServerRefusesError
from forkpoint_policies.hidden.artefact import Model

LAST_LAYER: Literal["last"] = "last"
Layer = int | Literal["last"]
PATH = "/states"


@dataclass(frozen=True, eq=False)
class AnswerStates:
    """`position` [n]: of the tokens that are sampled from the states; `rules` [n]: a bit for each condition that holds
    there; `layers`: the states [n, D], by layer."""

    position: NDArray[np.int64]
    rules: NDArray[np.int64]
    layers: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Served:
    """For which model the server's vectors and readouts must be, and at which layers vectors can be added."""

    model: Model
    hidden_layers: tuple[int, ...]


async def served_model(asker: Asker) -> Served:
    """What the server serves. Raises ServerLostError, ServerRefusesError."""
    found = await asker.get("/vectors")
    if "hidden_layers" not in found:
        raise ServerRefusesError(f"{asker.url} is a Forkpoint before 0.2.0, which reads no hidden states")
    return Served(Model(found["architecture"], found["hidden_size"]), tuple(found["hidden_layers"]))


async def read_states(
    asker: Asker, response_id: str, when: Sequence[Mapping[str, Any]], max_states: int, layers: Sequence[Layer]
) -> AnswerStates:
    """The states of a recent answer, at the first positions where one of the conditions `when` holds.

    Raises ServerLostError, ServerRefusesError.
    """
    body = {"request_id": response_id, "when": list(when), "max_states": max_states, "layers": list(layers)}
    try:
        response = await asker.client.post(PATH, body=body, cast_to=HttpxBinaryResponseContent)
        tensors = load(response.content)
    except openai.APIError as error:
        raise ServerRefusesError(f"{asker.url}: {asker.reason(error)}") from None
    except SafetensorError:
        raise ServerRefusesError(f"{asker.url}{PATH} returned something else than states") from None
    found = {name: array for name, array in tensors.items() if name not in ("positions", "rules")}
    return AnswerStates(tensors["positions"], tensors["rules"], found)
