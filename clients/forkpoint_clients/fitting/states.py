"""The hidden states of an answer, as a server reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray
from openai import HttpxBinaryResponseContent
from safetensors import SafetensorError
from safetensors.numpy import load

from forkpoint_clients.evaluate.asker import Asker, ServerRefusesError
from forkpoint_policies.hidden.artefact import Model

LAST_LAYER = "last"
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


async def served_model(asker: Asker) -> Model:
    """For which model the server's vectors and readouts must be. Raises ServerLostError, ServerRefusesError."""
    found = await asker.get("/vectors")
    if "architecture" not in found:
        raise ServerRefusesError(f"{asker.url} is a Forkpoint before 0.2.0, which reads no hidden states")
    return Model(found["architecture"], found["hidden_size"])


async def read_states(
    asker: Asker, response_id: str, when: Sequence[Mapping[str, Any]], max_states: int
) -> AnswerStates:
    """The states of a recent answer, at the first positions where one of the conditions `when` holds.

    Raises ServerLostError, ServerRefusesError.
    """
    body = {"request_id": response_id, "when": list(when), "max_states": max_states}
    try:
        response = await asker.client.post(PATH, body=body, cast_to=HttpxBinaryResponseContent)
        tensors = load(response.content)
    except openai.APIError as error:
        raise ServerRefusesError(f"{asker.url}: {asker.reason(error)}") from None
    except SafetensorError:
        raise ServerRefusesError(f"{asker.url}{PATH} returned something else than states") from None
    layers = {name: array for name, array in tensors.items() if name not in ("positions", "rules")}
    return AnswerStates(tensors["positions"], tensors["rules"], layers)
