"""What the tests of steering share: vectors for the embedded model, and that model in transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.worker.steering.options import extension_of, with_hidden_layers
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.engine.hidden_states import PUT_ARTEFACT

ARCHITECTURE, WIDTH, VOCABULARY = "Qwen3ForCausalLM", 192, 576
HOOKED = (1, 2)
Logprobs = NDArray[np.float64]


def vector_of(seed: int, layers: Sequence[int], norm: float = 4.0) -> Artefact:
    """A vector in a random direction."""
    random = np.random.default_rng(seed)
    found = {f"layer.{layer}": random.standard_normal(WIDTH) for layer in layers}
    tensors = {name: (norm * one / np.linalg.norm(one)).astype(np.float32) for name, one in found.items()}
    return Artefact("vector", Model(ARCHITECTURE, WIDTH), tensors, fitted="at random")


def steering_options(layers: Sequence[int] = HOOKED) -> dict[str, Any]:
    """The options of an engine that steers."""
    return {
        "worker_extension_cls": extension_of(ARCHITECTURE),
        "additional_config": with_hidden_layers(None, layers),
    }


def put(llm: Any, artefacts: Collection[Artefact]) -> None:
    """Send vectors to an engine."""
    for one in artefacts:
        assert llm.collective_rpc(PUT_ARTEFACT, args=(one.raw,)) == [""]


def logprobs_of(output: Any) -> Logprobs:
    """Of each token of an answer, those of the whole vocabulary: [n, V]."""
    found = np.full((len(output.token_ids), VOCABULARY), -np.inf)
    for row, step in enumerate(output.logprobs):
        for token, one in step.items():
            found[row, token] = one.logprob
    return found


class Reference:
    """The embedded model in transformers."""

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
        self._model.eval()

    @torch.inference_mode()
    def logprobs(
        self, prompt: Sequence[int], answer: Sequence[int], added: Mapping[int, Mapping[int, NDArray[np.float32]]]
    ) -> Logprobs:
        """Of each token of an answer: [n, V]. `added` is what is added to the states of tokens of the answer, by their
        number in it and by layer."""
        handles = []
        for number, layer in enumerate(self._model.model.layers):
            own = {
                len(prompt) + at: torch.from_numpy(vectors[number])
                for at, vectors in added.items()
                if number in vectors
            }
            handles.append(layer.register_forward_hook(_adding(own)))
        logits = self._model(torch.tensor([[*prompt, *answer]])).logits[0]
        for handle in handles:
            handle.remove()
        found: Logprobs = logits[len(prompt) - 1 : -1].double().log_softmax(-1).numpy()
        return found

    @torch.inference_mode()
    def states(self, prompt: Sequence[int], answer: Sequence[int], layer: int) -> NDArray[np.float32]:
        """The output of a layer from which each token of an answer is sampled: [n, D]."""
        read: list[Any] = []
        hook = self._model.model.layers[layer].register_forward_hook(lambda _module, _args, output: read.append(output))
        self._model(torch.tensor([[*prompt, *answer]]))
        hook.remove()
        (output,) = read
        found: NDArray[np.float32] = (output[0] if isinstance(output, tuple) else output)[0].numpy()
        return found[len(prompt) - 1 : -1]


def _adding(own: Mapping[int, torch.Tensor]) -> Any:
    def hook(_module: Any, _args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        for position, vector in own.items():
            states[0, position] += vector
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return hook
