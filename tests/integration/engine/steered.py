"""What the tests of steering share: vectors for the embedded model, and that model in transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.worker.steering.options import extension_of, with_layers
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.engine.hidden_states import PUT_ARTEFACT

ARCHITECTURE, WIDTH, VOCABULARY = "Qwen3ForCausalLM", 192, 576
HOOKED = (1, 2)
RECYCLED = (0, 2)
Logprobs = NDArray[np.float64]


def vector_of(seed: int, layers: Sequence[int], norm: float = 4.0) -> Artefact:
    """A vector in a random direction."""
    random = np.random.default_rng(seed)
    found = {f"layer.{layer}": random.standard_normal(WIDTH) for layer in layers}
    tensors = {name: (norm * one / np.linalg.norm(one)).astype(np.float32) for name, one in found.items()}
    return Artefact("vector", Model(ARCHITECTURE, WIDTH), tensors, fitted="at random")


def steering_options(layers: Sequence[int] = HOOKED, recycled: Sequence[int] = RECYCLED) -> dict[str, Any]:
    """The options of an engine that steers, and runs layers again."""
    return {
        "worker_extension_cls": extension_of(ARCHITECTURE),
        "additional_config": with_layers(None, layers, recycled),
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
        self,
        prompt: Sequence[int],
        answer: Sequence[int],
        added: Mapping[int, Mapping[int, NDArray[np.float32]]],
        again: Mapping[int, Collection[int]] | None = None,
    ) -> Logprobs:
        """Of each token of an answer: [n, V]. `added` is what is added to the states of tokens of the answer, by their
        number in it and by layer; `again` are the tokens for which a layer is run again, by layer."""
        handles = []
        for layer, tokens in (again or {}).items():
            handles += _running_again(self._model.model.layers[layer], [len(prompt) + at for at in tokens])
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
    def drawn_again(self, prompt: Sequence[int], answer: Sequence[int], layer_at: Mapping[int, int]) -> Logprobs:
        """As `logprobs`, of a model that computes some positions twice, each with its layer: the second time, the
        input of the layer for the last token is its output of the first time. All other positions are the model's
        own."""
        found = self.logprobs(prompt, answer, {})
        for position, number in layer_at.items():
            layer, once = self._model.model.layers[number], list[torch.Tensor]()
            text = torch.tensor([[*prompt, *answer[:position]]])
            hook = layer.register_forward_hook(_keeping_last(once))
            self._model(text)
            hook.remove()
            hook = layer.register_forward_pre_hook(_replacing_last(once[0]), with_kwargs=True)
            logits = self._model(text).logits[0, -1]
            hook.remove()
            found[position] = logits.double().log_softmax(-1).numpy()
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


def _running_again(layer: Any, positions: Sequence[int]) -> list[Any]:
    """Hooks by which a layer runs twice at these positions, with the keys and values of the first pass."""
    projections = (layer.self_attn.k_proj, layer.self_attn.v_proj)
    first: dict[Any, torch.Tensor] = {}

    def keep(module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        return first.setdefault(module, output)

    def run_again(module: Any, args: Any, options: Any, output: Any) -> Any:
        once = output[0] if isinstance(output, tuple) else output
        states = args[0].clone()
        states[0, positions] = once[0, positions]
        second = module.forward(states, *args[1:], **options)
        found = once.clone()
        found[0, positions] = (second[0] if isinstance(second, tuple) else second)[0, positions]
        return (found, *output[1:]) if isinstance(output, tuple) else found

    return [
        *(one.register_forward_hook(keep) for one in projections),
        layer.register_forward_hook(run_again, with_kwargs=True),
    ]


def _keeping_last(kept: list[torch.Tensor]) -> Any:
    def hook(_module: Any, _args: Any, output: Any) -> None:
        kept.append((output[0] if isinstance(output, tuple) else output)[:, -1].clone())

    return hook


def _replacing_last(state: torch.Tensor) -> Any:
    def hook(_module: Any, args: Any, options: Any) -> Any:
        states = args[0].clone()
        states[:, -1] = state
        return (states, *args[1:]), options

    return hook


def _adding(own: Mapping[int, torch.Tensor]) -> Any:
    def hook(_module: Any, _args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        for position, vector in own.items():
            states[0, position] += vector
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return hook
