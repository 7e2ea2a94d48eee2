"""Real vLLM engines on the embedded model: a stock one, and one with our logits processor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forkpoint_server.demo import WEIGHTS
from tests.processes.forkpoint_server import CACHE_BYTES

# Imported late: xdist's controller loads this module too, and vLLM takes ten seconds to import.
if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    from forkpoint_policies.compile.compiler import ServedModel
    from forkpoint_policies.kernel.state_handover import Inherited
    from forkpoint_policies.spec import Policy
    from forkpoint_policies.worker.records import RecordRows
    from forkpoint_server.traces.trace import Trace
    from tests.integration.engine.steered import Reference

OPTIONS: dict[str, Any] = {
    "model": str(WEIGHTS), "enforce_eager": True, "max_model_len": 1024, "block_size": 32, "disable_log_stats": False,
    "kv_cache_memory_bytes": CACHE_BYTES, "dtype": "float32",
    # By its path: where "uni" is chosen, vLLM's CPU build starts a worker process beside the engine's, which spins.
    "distributed_executor_backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
}  # fmt: skip
EXTENSION = "forkpoint_policies.worker.last_layer.StateReading"
FIRST_RECORD_MILLISECONDS, NEXT_RECORD_MILLISECONDS = 20_000, 1_000
_handles = itertools.count(1)

Instruct = Callable[..., "SamplingParams"]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """What transformers computes of the embedded model, also with changed states."""
    from tests.integration.engine.steered import Reference

    return Reference()


@pytest.fixture(scope="session")
def target(tokenizer: Any) -> ServedModel:
    from forkpoint_policies.compile.compiler import ServedModel
    from forkpoint_policies.compile.regions import single_token_regions
    from forkpoint_server.policies.served_model import encoder, read_vocabulary

    start, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    return ServedModel(
        read_vocabulary(tokenizer, 576),
        fork_threshold=0.672,
        regions=single_token_regions(start, end),
        stop=tokenizer.eos_token_id,
        encode=encoder(tokenizer),
    )


@pytest.fixture(scope="session")
def prompts(tokenizer: Any) -> list[TokensPrompt]:
    from vllm.inputs import TokensPrompt

    from forkpoint_policies.tasks.countdown import held_out_puzzles

    puzzles = held_out_puzzles("hard", 16)
    texts = [f"<|im_start|>user\n{puzzle.prompt}<|im_end|>\n<|im_start|>assistant\n<think>" for puzzle in puzzles]
    return [TokensPrompt(prompt_token_ids=tokenizer.encode(text)) for text in texts]


@pytest.fixture(scope="session")
def instruct(target: ServedModel) -> Instruct:
    """Sampling parameters with the instruction of a policy; each is a request of its own."""
    from vllm import SamplingParams

    from forkpoint_policies.compile.compiler import compile_policy
    from forkpoint_policies.compile.program import key_of
    from forkpoint_policies.compile.regions import Region
    from forkpoint_policies.kernel.sampling_limits import SamplingLimits
    from forkpoint_policies.spec import Policy, parse_policy
    from forkpoint_policies.worker.payload import PolicyPayload
    from tests.integration.engine.demo_readout import CORRECT, NAME, READOUT

    def make(
        policy: dict[str, Any] | Policy | None,
        address: str = "",
        num_shared_tokens: int = 0,
        inherited: Inherited | None = None,
        forced_tokens: Sequence[int] = (),
        scored: bool = False,
        kept_states: Sequence[str] = (),
        served: ServedModel | None = None,
        sums_above: float | None = None,
        **options: Any,
    ) -> SamplingParams:
        params = SamplingParams(**{"max_tokens": 200, **options})
        if policy is not None:
            parsed = policy if isinstance(policy, Policy) else parse_policy(policy)
            compiled = compile_policy(parsed, served or replace(target, artefacts={NAME: READOUT, CORRECT: READOUT}))
            packed, seed = compiled.program.pack(), params.seed or 0
            sampled_tokens = compiled.placebo_tokens(seed)
            instruction = PolicyPayload(
                packed,
                key_of(packed),
                next(_handles),
                address,
                word_state=0,
                region=Region.REASONING,
                seed=seed,
                sampled=sampled_tokens,
                num_shared_tokens=num_shared_tokens,
                inherited=inherited,
                forced_tokens=list(forced_tokens),
                limits=SamplingLimits(params.top_k, params.top_p, params.min_p),
                scored=scored,
                max_states=4096 * bool(kept_states),
                kept_states=list(kept_states),
                sums_above=sums_above,
            )
            params.extra_args = instruction.into(None)
        return params

    return make


class Telemetry:
    """Listens to what engines report."""

    def __init__(self, folder: Path) -> None:
        self._address = f"ipc://{folder / 'telemetry'}"
        self._num_addresses = 0

    def read(
        self, generate: Callable[[str], list[tuple[int, ...]]]
    ) -> tuple[list[tuple[int, ...]], list[dict[int, float]]]:
        """What `generate` returns for the address to report to; and each request's entropies in nats, by position."""
        found: dict[int, dict[int, float]] = {}
        answer, reported = self._listen(generate)
        for rows in _batches(reported):
            for handle, position, entropy in zip(
                rows.handle.tolist(), rows.position.tolist(), rows.entropy.tolist(), strict=True
            ):
                found.setdefault(handle, {})[position] = (
                    entropy  # the last one counts, as drafts may be evaluated again
                )
        return answer, [found[handle] for handle in sorted(found)]

    def traces(self, generate: Callable[[str], list[tuple[int, ...]]]) -> list[Trace]:
        """The trace the server would store of each request that `generate` sends, in their order."""
        from forkpoint_policies.worker.record_sums import NUM_FRAMES, decode_sums
        from forkpoint_policies.worker.records import decode_distribution, decode_hidden, decode_logprobs
        from forkpoint_server.traces.logprobs import PolicyLogprobs
        from forkpoint_server.traces.trace import SummedRange, Trace

        found: dict[int, Trace] = {}
        answer, reported = self._listen(generate)

        def trace_of(handle: int) -> Trace:
            return found.setdefault(handle, Trace(handle, 0, logprobs=PolicyLogprobs()))

        sums = [decode_sums(frames) for frames in reported if len(frames) == NUM_FRAMES]
        for message in sums:
            for number, (handle, first, end, count) in enumerate(message.places.tolist()):
                trace_of(handle).add_sums(SummedRange(first, end, count, message.sums.of(number)))
        for rows in [*_batches(reported), *(message.record_rows for message in sums)]:
            for handle, row in zip(rows.handle.tolist(), rows.values, strict=True):
                trace_of(handle).add(rows.values.shape[1], rows.rules, row.tobytes())
        for handle, tokens in zip(sorted(found), answer, strict=True):
            found[handle].tokens.extend(tokens)
        for frames in reported:
            if len(frames) == 4:
                hidden = decode_hidden(frames)
                for (handle, position), values in zip(hidden.places.tolist(), hidden.values, strict=True):
                    found[handle].hidden.add(position, values)
            elif len(frames) == 1:
                for handle, position, token, nats in decode_logprobs(frames):
                    found[handle].add_logprob(position, token, nats)
            elif len(frames) == 2:
                whole = decode_distribution(frames)
                found[whole.handle].add_distribution(whole.position, whole.logprobs)
        return [found[handle] for handle in sorted(found)]

    def _listen(
        self, generate: Callable[[str], list[tuple[int, ...]]]
    ) -> tuple[list[tuple[int, ...]], list[list[bytes]]]:
        import zmq

        self._num_addresses += 1
        address, patience, reported = f"{self._address}{self._num_addresses}", FIRST_RECORD_MILLISECONDS, []
        with zmq.Context() as context, context.socket(zmq.PULL) as socket:
            socket.bind(address)
            answer = generate(address)
            while socket.poll(patience):
                reported.append(socket.recv_multipart())
                patience = NEXT_RECORD_MILLISECONDS
        return answer, reported


def _batches(messages: list[list[bytes]]) -> list[RecordRows]:
    """The records among the messages."""
    from forkpoint_policies.worker.records import decode

    return [decode(frames).rows for frames in messages if len(frames) == 3]


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return Telemetry(tmp_path)


def running(**options: Any) -> Iterator[LLM]:
    """An engine, shut down at the end."""
    from vllm import LLM

    from forkpoint_server.engine.hidden_states import READ_STATES

    llm = LLM(**{"max_num_seqs": 256, **OPTIONS, **options})
    if "worker_extension_cls" in options:
        assert llm.collective_rpc(READ_STATES) == [""]
    yield llm
    llm.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="module")
def stock() -> Iterator[LLM]:
    yield from running()


@pytest.fixture(scope="module")
def intervening() -> Iterator[LLM]:
    from forkpoint_server.cli import PROCESSORS

    yield from running(logits_processors=[PROCESSORS[False]], worker_extension_cls=EXTENSION)


@pytest.fixture(scope="module")
def cramped() -> Iterator[LLM]:
    """A tiny cache and small batches: prompts are computed in pieces, and requests are preempted and resumed."""
    from forkpoint_server.cli import PROCESSORS

    yield from running(
        logits_processors=[PROCESSORS[False]],
        worker_extension_cls=EXTENSION,
        max_num_batched_tokens=48,
        max_num_seqs=16,
        num_gpu_blocks_override=40,
        enable_prefix_caching=False,
    )
