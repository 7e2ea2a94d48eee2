"""The one-way rule of imports: which module may import which, so that each package installs only what it needs."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Rule:
    """What the modules of one package must not import, save what is allowed below it, and save for some modules."""

    package: str
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()

    def breach(self, module: str, target: str) -> bool:
        return module not in self.exempt and within(target, self.forbidden) and not within(target, self.allowed)


RULES = (
    Rule("forkpoint_policies", forbidden=("forkpoint_server", "forkpoint_clients")),
    Rule(
        "forkpoint_policies",
        forbidden=("vllm",),
        exempt=(
            "forkpoint_policies.worker.steering.model",
            "forkpoint_policies.worker.steering.model_state",
            "forkpoint_policies.worker.vllm_v1",
            "forkpoint_policies.worker.vllm_v2",
        ),
    ),
    Rule("forkpoint_server", forbidden=("forkpoint_clients",)),
    Rule("forkpoint_server", forbidden=("vllm",), exempt=("forkpoint_server.vllm_seam",)),
    Rule("forkpoint_clients", forbidden=("forkpoint_server", "torch", "vllm")),
    Rule(
        "forkpoint_clients",
        forbidden=("forkpoint_policies",),
        allowed=(
            "forkpoint_policies.spec",
            "forkpoint_policies.answers",
            "forkpoint_policies.library",
            "forkpoint_policies.tasks",
            "forkpoint_policies.catalog",
            "forkpoint_policies.doses",
            "forkpoint_policies.hidden.artefact",
            "forkpoint_policies.hidden.fit_readout",
            "forkpoint_policies.hidden.fit_vector",
            "forkpoint_policies.hidden.separation",
        ),
    ),
)


def within(target: str, names: tuple[str, ...]) -> bool:
    return any(target == name or target.startswith(f"{name}.") for name in names)


def targets(source: str, package: str) -> Iterator[str]:
    """The full names that a source imports: at its top, in functions, or for the type checker only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def imports(package: str) -> list[tuple[str, str]]:
    """(importing module, imported name) of a whole source tree."""
    folder = ROOT / package.removeprefix("forkpoint_")
    found = []
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        found += [(module, target) for target in targets(path.read_text(encoding="utf-8"), ".".join(parts[:-1]))]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.package} without {', '.join(rule.forbidden)}")
def test_imports_go_one_way(rule: Rule) -> None:
    found = imports(rule.package)
    assert found, f"no imports found in {rule.package}: is the source tree still where this test looks?"
    assert [f"{module} imports {target}" for module, target in found if rule.breach(module, target)] == []


def graph(package: str, by: Callable[[str], str] = lambda module: module) -> dict[str, set[str]]:
    """Each module's (or `by(module)`'s) imports within its package, also in functions and for types only."""
    found = imports(package)
    modules = {module for module, _ in found}
    edges: dict[str, set[str]] = {by(module): set() for module in modules}
    for module, target in found:
        imported = target if target in modules else target.rpartition(".")[0]
        if imported in modules and by(imported) != by(module):
            edges[by(module)].add(by(imported))
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The modules in circles or between two of them: those left after removing the ends of all chains. May be empty."""
    left = {module: set(targets) for module, targets in edges.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        circular = {module for module, targets in left.items() if targets and module in imported}
        if circular == left.keys():
            return sorted(left)
        left = {module: left[module] & circular for module in circular}


PACKAGES = ("forkpoint_policies", "forkpoint_server", "forkpoint_clients")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_files(package: str) -> None:
    assert circle(graph(package)) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"a", "d"}, "c": {"a"}, "d": set()}) == ["a", "b"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import vllm.config as c", ["vllm.config"]),
        ("from vllm import LLM, config", ["vllm.LLM", "vllm.config"]),
        ("def f():\n    import torch", ["torch"]),
        ("from .corpus import ExampleTrace", ["forkpoint_server.demo.corpus.ExampleTrace"]),
        ("from .. import engine", ["forkpoint_server.engine"]),
    ],
)
def test_targets_are_full_names(source: str, expected: list[str]) -> None:
    assert list(targets(source, "forkpoint_server.demo")) == expected


@pytest.mark.parametrize(
    "module",
    [
        "forkpoint_policies.spec",
        "forkpoint_policies.library",
        "forkpoint_policies.cli",
        "forkpoint_policies.worker.records",
    ],
)
def test_imports_without_torch(module: str) -> None:
    """Writing policies and printing the command line's help import neither torch nor vLLM, nor SymPy."""
    script = f"import sys, {module}; print(*sorted({{'torch', 'vllm', 'sympy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
