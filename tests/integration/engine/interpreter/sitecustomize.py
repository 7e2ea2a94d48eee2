"""Lets vLLM use Triton without a GPU: with this folder on PYTHONPATH and TRITON_INTERPRET=1, kernels are interpreted.

vLLM's CPU build turns Triton off, and with it the V2 model runner, unless Triton has a backend "cpu" with an active
driver. The interpreter is all that is needed, but it is not a backend, so a stand-in claims to be one. Python imports
this module by its name before anything else in every process, vLLM's own workers included, so the stand-in is there
before vLLM looks.
"""

import os
from typing import Any


class Driver:
    """What is called on a driver where no kernel is ever compiled: interpreted ones touch no device."""

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_device(self) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]

        return GPUTarget("cpu", 0, 1)

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")


class Compiler:
    """What Inductor asks for the key of its cache. For a CPU it writes C++, and compiles nothing with Triton."""

    def __init__(self, _target: Any) -> None: ...

    @staticmethod
    def supports_target(target: Any) -> bool:
        return bool(target.backend == "cpu")

    def hash(self) -> str:
        return "interpreted"

    def parse_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return options


if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.backends import Backend, backends  # type: ignore[import-untyped]

    backends["cpu"] = Backend(compiler=Compiler, driver=Driver)
