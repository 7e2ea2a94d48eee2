"""The models: where each can be had, its licence, and what it was converted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PackagedModel:
    """A model on the hub, and a GGUF file of it, quantised by others, whose parts are in the wheels of `NAME.txt`."""

    name: str
    hub_id: str
    licence: str
    quantisation: str
    gguf_sha256: str

    @property
    def requirements(self) -> Path:
        """The wheels with their hashes, one a line, in the order of the parts."""
        return FOLDER / f"{self.name}.txt"


MODELS: Mapping[str, PackagedModel] = {
    model.name: model
    for model in (
        PackagedModel(
            "qwen2.5-coder-0.5b",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct",
            "Apache-2.0",
            "Q4_K_M",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        PackagedModel(
            "qwen2.5-coder-1.5b",
            "Qwen/Qwen2.5-Coder-1.5B-Instruct",
            "Apache-2.0",
            "Q4_K_M",
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
        PackagedModel(
            "smollm2-135m",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "Apache-2.0",
            "Q4_1",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}
