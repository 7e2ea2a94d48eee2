"""The C++ source of the step, with the constants that it shares with Python, and its compilation for this CPU.

Compiled libraries are stored by what they were made of, so that only the first start after a change compiles.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from forkpoint_policies.compile.program import Action, ControlKind, RegionCode, Shape, Signal
from forkpoint_policies.compile.regions import HOME, IN_REASONING, IN_TOOL_CALL
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE
from forkpoint_policies.kernel import record_flags
from forkpoint_policies.kernel.state_handover import BIN_EDGES_NATS, HISTORY_BINS, LOGARITHMIC_BIN, MIN_BIN_NATS
from forkpoint_policies.spec import CONFIDENCE_TOKENS, MAX_RULES

from . import columns

SOURCE = Path(__file__).parent / "source"
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-funroll-loops", "-shared", "-fPIC",
)  # fmt: skip


class CompilerError(RuntimeError):
    """No compiler, or one that does not accept the source; the message says which."""


def constants() -> Mapping[str, int]:
    """The whole numbers that the source shares with Python, by their names there."""
    found = {name: value for name, value in vars(columns).items() if name.isupper() and isinstance(value, int)}
    for prefix, kind in (("ACTION", Action), ("CONTROL", ControlKind), ("REGION", RegionCode), ("SHAPE", Shape)):
        found |= {f"{prefix}_{one.name}": int(one) for one in kind}
    found |= {f"SIGNAL_{one.name}": int(one) for one in Signal}
    found |= {f"FLAG_{name}": value for name, value in vars(record_flags).items() if name.isupper()}
    return found | {
        "CONFIDENCE_TOKENS": CONFIDENCE_TOKENS,
        "HISTORY_BINS": HISTORY_BINS,
        "MAX_RULES": MAX_RULES,
        "ANY_STATE": ANY_STATE,
        "WORD_STATE_FREE": FREE,
        "WORD_STATE_INSIDE": INSIDE,
        "REGION_HOME": int(HOME),
        "IN_REASONING": int(IN_REASONING),
        "IN_TOOL_CALL": int(IN_TOOL_CALL),
    }


def header() -> str:
    """columns.h."""
    lines = [f"constexpr int {name} = {value};" for name, value in constants().items()]
    lines += [f"constexpr float MIN_BIN_NATS = {float(MIN_BIN_NATS)!r}f;"]
    lines += [f"constexpr float LOGARITHMIC_BIN = {LOGARITHMIC_BIN!r}f;"]
    edges = ", ".join(f"{float(edge)!r}f" for edge in BIN_EDGES_NATS)
    lines += [f"static DEVICE_DATA const float BIN_EDGES_NATS[] = {{{edges}}};"]
    return "\n".join(("#pragma once", *lines, ""))


def library() -> Path:
    """The step for this CPU, compiled if it was not yet. Raises CompilerError."""
    compiler = _compiler()
    digest = sha256("\0".join((header(), *compiler, *FLAGS, _version(compiler), *_cpu())).encode())
    for source in sorted(SOURCE.rglob("*")):
        if source.suffix in (".h", ".cpp"):
            digest.update(source.read_bytes())
    return stored(f"step-{digest.hexdigest()[:24]}.so", lambda target: _compile(compiler, target))


def stored(name: str, make: Callable[[Path], None]) -> Path:
    """The file stored under a name that depends on all that it is made of; `make` writes it, if it is not there.

    Raises CompilerError where no folder can be written.
    """
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as own:
                made = Path(own, name)
                make(made)
                return made.replace(folder / name)  # at once, as several processes may do this at the same time
        except OSError:  # not ours to write to
            continue
    raise CompilerError("there is no folder to store the compiled step in: set XDG_CACHE_HOME to one")


def _compile(compiler: tuple[str, ...], target: Path) -> None:
    (target.parent / "columns.h").write_text(header())
    command = (*compiler, *FLAGS, f"-I{target.parent}", f"-I{SOURCE}", str(SOURCE / "cpu.cpp"), "-o", str(target))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CompilerError(f"{shlex.join(compiler)} does not compile the step: {done.stderr.strip()[:2000]}")


def _compiler() -> tuple[str, ...]:
    for command in filter(None, (os.environ.get("CXX"), "g++", "c++", "clang++")):
        words = tuple(shlex.split(command))
        if words and shutil.which(words[0]):
            return words
    raise CompilerError("there is no C++ compiler: install g++, or name one by CXX")


def _version(compiler: tuple[str, ...]) -> str:
    return subprocess.run((*compiler, "--version"), capture_output=True, text=True, check=False).stdout  # noqa: S603


def _cpu() -> tuple[str, ...]:
    """What -march=native depends on: a home may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return (platform.machine(), platform.processor())
    named = [line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")]
    return (platform.machine(), *sorted(set(named)))


def _folders() -> Iterator[Path]:
    """Where compiled libraries are stored, by preference."""
    base = os.environ.get("XDG_CACHE_HOME")
    yield (Path(base) if base else Path.home() / ".cache") / "forkpoint"
    yield Path(tempfile.gettempdir()) / f"forkpoint-{os.getuid()}"
