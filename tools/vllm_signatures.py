"""Checks a vLLM that is not installed against what we use of it: `python -m tools.vllm_signatures NEW [OLD]`.

`python -m tools.vllm_signatures --names NEW` prints where NEW has each name that we use. `tools/vllm_names` has that
list for each supported version that the tests do not install; a test holds that it is complete.

NEW and OLD are wheels or folders that hold `vllm/`; OLD is the installed vLLM by default. Nothing is imported: names,
parameters and routes are read from the source. Prints what is missing, what breaks a pin of
tests/integration/engine/test_seams.py, and what else changed; exits with 1 for the first two.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
USERS = (
    "server/forkpoint_server/vllm_seam.py",
    "policies/forkpoint_policies/worker/steering/model.py",
    "policies/forkpoint_policies/worker/steering/model_state.py",
    "policies/forkpoint_policies/worker/vllm_v1.py",
    "policies/forkpoint_policies/worker/vllm_v2.py",
)
"""The only modules that import from vLLM."""
PINS = ROOT / "tests/integration/engine/test_seams.py"
METHODS = {"get", "post", "put", "patch", "delete"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """The source of one vLLM: a wheel, or the folder that holds `vllm/`."""

    path: Path

    @cached_property
    def _wheel(self) -> zipfile.ZipFile | None:
        return zipfile.ZipFile(self.path) if self.path.is_file() else None

    def read(self, file: str) -> str | None:
        """A file's text by its path below the root; None if there is none."""
        if self._wheel is None:
            found = self.path / file
            return found.read_text(encoding="utf-8") if found.is_file() else None
        return self._wheel.read(file).decode() if file in self._wheel.namelist() else None

    def module(self, name: str) -> ast.Module | None:
        path = name.replace(".", "/")
        text = self.read(f"{path}.py") or self.read(f"{path}/__init__.py")
        return None if text is None else ast.parse(text)

    def entrypoint_files(self) -> list[str]:
        """The modules below `vllm/entrypoints`, which declare the routes."""
        below = "vllm/entrypoints/"
        if self._wheel is None:
            return sorted(str(path.relative_to(self.path)) for path in (self.path / below).rglob("*.py"))
        return sorted(name for name in self._wheel.namelist() if name.startswith(below) and name.endswith(".py"))


def used_names() -> dict[str, list[str]]:
    """Each name that we import from vLLM, with the modules where it may be: a newer version may have moved it."""
    found: dict[str, list[str]] = {}
    for user in USERS:
        for node in ast.walk(ast.parse((ROOT / user).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm":
                for alias in node.names:
                    modules = found.setdefault(alias.name, [])
                    if node.module not in modules:
                        modules.append(node.module or "")
    return found


def found_names(source: Source) -> list[str]:
    """Each name that we import from vLLM as `module.name`, in the first of its modules where the source has it."""
    return sorted(
        f"{module}.{name}"
        for name, modules in used_names().items()
        if (module := next((one for one in modules if definition(source, one, name) is not None), None)) is not None
    )


def definition(source: Source, module: str, name: str, seen: frozenset[str] = frozenset()) -> ast.AST | None:
    """The statement that defines a name, through re-exports; None if the module has no such name."""
    tree = source.module(module)
    if tree is None or module in seen:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            value = node.value
            return definition(source, module, value.id, seen) or node if isinstance(value, ast.Name) else node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = _absolute(source, module, node)
                    submodule = source.module(f"{origin}.{alias.name}")
                    return definition(source, origin, alias.name, seen | {module}) or submodule
                if alias.name == "*" and (star := _starred(source, module, node, name, seen)) is not None:
                    return star
    # names that a package resolves when they are first used: {"LLM": ".entrypoints.llm:LLM"}
    for text in (one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)):
        origin, _, attribute = text.partition(":")
        if attribute == name and origin.startswith("."):
            return definition(source, module + origin, name, seen | {module})
    return source.module(f"{module}.{name}")


def parameters(source: Source, node: ast.AST | None) -> list[str] | None:
    """The parameters of a function, or with which a class is called; None if they cannot be read."""
    if isinstance(node, Function):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
        return [one.arg for one in every if one is not None and one.arg not in ("self", "cls")]
    if isinstance(node, ast.ClassDef):
        init = _member(node, "__init__")
        return parameters(source, init) if init is not None else [name for name, _ in _fields(node)]
    return None


def routes(source: Source) -> set[str]:
    """The HTTP routes that the entry points declare, as `METHOD /path`."""
    found = set()
    for file in source.entrypoint_files():
        for node in ast.walk(ast.parse(source.read(file) or "")):
            if not isinstance(node, Function):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in METHODS:
                    path = call.args[0] if call.args else None
                    if isinstance(path, ast.Constant) and isinstance(path.value, str):
                        found.add(f"{call.func.attr.upper()} {path.value}")
    return found


def broken_pins(source: Source) -> list[str]:
    """What of the source differs from the pins."""
    names, pins = used_names(), _pins()
    found = {name: _found(source, name, modules) for name, modules in names.items()}
    problems = [
        f"{name} is not in {' or '.join(names[name])}"
        for name, definition in found.items()
        if definition is None and name != "__version__"
    ]
    for name, expected in pins["PARAMETERS"].items():
        actual = parameters(source, found.get(name))
        if actual is not None and actual != expected:
            problems.append(f"{name} has the parameters {actual}, pinned are {expected}")
    for name, members in pins["MEMBERS"].items():
        node = found.get(name)
        for member, expected in members.items():
            problem = _broken_member(source, name, node, member, expected)
            problems += [problem] if problem else []
    return problems


def changes(old: Source, new: Source) -> Iterator[str]:
    """What changed between two versions in the signatures of the names that we use, and in the routes."""
    for name, modules in used_names().items():
        before, after = (_signatures(source, _found(source, name, modules)) for source in (old, new))
        for member in sorted(before.keys() | after.keys()):
            if before.get(member) != after.get(member):
                yield f"{name}{member}: {before.get(member, 'absent')} -> {after.get(member, 'absent')}"
    before_routes, after_routes = routes(old), routes(new)
    yield from (f"route {one} is gone" for one in sorted(before_routes - after_routes))
    yield from (f"route {one} is new" for one in sorted(after_routes - before_routes))


def installed() -> Source:
    """The vLLM of this environment."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    return Source(Path(spec.origin).parents[1])


def main(arguments: list[str]) -> int:
    """Print the comparison; returns the exit status."""
    if not 1 <= len(arguments) <= 2 or arguments == ["--names"]:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "--names":
        print(*found_names(Source(Path(arguments[1]))), sep="\n")
        return 0
    new = Source(Path(arguments[0]))
    old = Source(Path(arguments[1])) if len(arguments) == 2 else installed()
    problems = broken_pins(new)
    for problem in problems:
        print(f"BROKEN  {problem}")
    for change in changes(old, new):
        print(f"changed {change}")
    return 1 if problems else 0


def _found(source: Source, name: str, modules: list[str]) -> ast.AST | None:
    return next((node for module in modules if (node := definition(source, module, name)) is not None), None)


def _pins() -> dict[str, dict[str, Any]]:
    """The literals PARAMETERS and MEMBERS of the test."""
    tree = ast.parse(PINS.read_text(encoding="utf-8"))
    return {
        node.target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }


def _broken_member(
    source: Source, name: str, node: ast.AST | None, member: str, expected: list[str] | None
) -> str | None:
    if not isinstance(node, ast.ClassDef):
        return None
    # the class or a base; a base that is not vLLM's is not searched
    owners = [node, *_bases(source, name, node)]
    if member == "__init__":
        actual = [one for owner in owners for one in parameters(source, owner) or []]
    else:
        defined = next((one for owner in owners if (one := _member(owner, member)) is not None), None)
        if defined is None and member not in {field for owner in owners for field, _ in _fields(owner)}:
            foreign = any(not isinstance(base, ast.Name) or base.id in FOREIGN for one in owners for base in one.bases)
            return None if foreign else f"{name}.{member} is gone"
        actual = parameters(source, defined) or []
        if defined is None or isinstance(defined, ast.Assign):
            return None
    missing = set(expected or ()) - set(actual)
    return f"{name}.{member} has no {', '.join(sorted(missing))}" if missing else None


FOREIGN = {"ArgumentParser", "BaseModel", "Enum", "IntEnum", "OpenAIBaseModel"}


def _bases(source: Source, name: str, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The classes of vLLM that a class of a used module is derived from."""
    for module in used_names().get(name, []):
        origin = _module_of(source, module, name)
        for base in node.bases:
            if isinstance(base, ast.Name) and origin is not None:
                found = definition(source, origin, base.id)
                if isinstance(found, ast.ClassDef) and found is not node:
                    yield found
                    yield from _bases(source, base.id, found)


def _starred(source: Source, module: str, node: ast.ImportFrom, name: str, seen: frozenset[str]) -> ast.AST | None:
    """What defines a name of a starred import."""
    origin = _absolute(source, module, node)
    return None if origin.partition(".")[0] != "vllm" else definition(source, origin, name, seen | {module})


def _module_of(source: Source, module: str, name: str) -> str | None:
    """The module in which a name is defined, through re-exports."""
    tree = source.module(module)
    for node in _statements(tree) if tree is not None else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return module
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            return _module_of(source, _absolute(source, module, node), name)
    return None


def _signatures(source: Source, node: ast.AST | None) -> dict[str, str]:
    """The signature of a function, or of a class's fields and public methods, by `.member`."""
    if isinstance(node, Function):
        return {"": f"({ast.unparse(node.args)})"}
    if not isinstance(node, ast.ClassDef):
        return {}
    fields = {f".{name}": annotation for name, annotation in _fields(node)}
    methods = {
        f".{one.name}": f"({ast.unparse(one.args)})"
        for one in node.body
        if isinstance(one, Function) and (not one.name.startswith("_") or one.name == "__init__")
    }
    return {**fields, **methods}


def _member(node: ast.ClassDef, name: str) -> ast.AST | None:
    for one in node.body:
        if isinstance(one, Function) and one.name == name:
            return one
        if isinstance(one, ast.Assign) and name in _targets(one):
            return one
    return None


def _fields(node: ast.ClassDef) -> list[tuple[str, str]]:
    return [
        (one.target.id, ast.unparse(one.annotation))
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    ]


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """A module's statements, with those of its `if` and `try` blocks."""
    waiting = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If):
            waiting += reversed([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            waiting += reversed([*node.body, *(one for handler in node.handlers for one in handler.body)])


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _absolute(source: Source, module: str, node: ast.ImportFrom) -> str:
    """The module that an import names, also one that is relative to its own."""
    if not node.level:
        return node.module or ""
    is_package = source.read(f"{module.replace('.', '/')}/__init__.py") is not None
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *filter(None, [node.module])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
