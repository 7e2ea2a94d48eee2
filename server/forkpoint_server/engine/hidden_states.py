"""Lets the worker read the last layer's hidden states, for policies whose conditions depend on them."""

from __future__ import annotations

from collections.abc import Iterable

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.worker.last_layer import EXTENSION, StateReading
from forkpoint_policies.worker.steering.options import EXTENSIONS as STEERING_EXTENSIONS
from forkpoint_policies.worker.steering.options import hidden_layers, recycle_layers
from forkpoint_server.vllm_seam import EngineClient, VllmConfig

READ_STATES = StateReading.forkpoint_read_states.__name__
PUT_ARTEFACT = StateReading.forkpoint_put_artefact.__name__
TAKE_STATES = StateReading.forkpoint_take_states.__name__


async def start_reading(engine: EngineClient) -> str:
    """Hook the served model in every worker; empty, or why its hidden states cannot be read."""
    problem = unreadable(engine.vllm_config)
    return problem or first_problem(await engine.collective_rpc(READ_STATES))


async def push_artefact(engine: EngineClient, artefact: Artefact) -> str:
    """Send a vector or readout to every worker; empty, or what is wrong with it."""
    return first_problem(await engine.collective_rpc(PUT_ARTEFACT, args=(artefact.raw,)))


async def take_states(engine: EngineClient, handle: int) -> bytes:
    """The states that a request has kept, as a safetensors file: of the first worker that has them. Empty if none
    has."""
    answers: list[bytes] = await engine.collective_rpc(TAKE_STATES, args=(handle,))
    return next(filter(None, answers), b"")


def artefact_model(engine: EngineClient) -> Model:
    """What the served model is to vectors and readouts."""
    config = engine.model_config
    return Model(config.architectures[0], config.get_hidden_size())


def hooked_layers(config: VllmConfig) -> tuple[int, ...]:
    """The layers at which the workers can add vectors."""
    return hidden_layers(config.additional_config)


def repeatable_layers(config: VllmConfig) -> tuple[int, ...]:
    """The layers that the workers can run again."""
    return recycle_layers(config.additional_config)


def unreadable(config: VllmConfig) -> str:
    """Why no worker could be asked for its hidden states; empty if each can."""
    found = config.parallel_config.worker_extension_cls
    if is_own_extension(found):
        return ""
    return f"the server was started with --worker-extension-cls {found}, which takes the place of Forkpoint's"


def is_own_extension(worker_extension: str) -> bool:
    """Whether what --worker-extension-cls names is Forkpoint's, so that the workers answer the server."""
    return worker_extension == EXTENSION or worker_extension.startswith(f"{STEERING_EXTENSIONS}.")


def first_problem(answers: Iterable[str]) -> str:
    """The first answer of a worker that is not empty."""
    return next(filter(None, answers), "")
