"""The `forkpoint` command: hands each subcommand to the installed package that offers it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version

GROUP = "forkpoint.commands"


def main(arguments: list[str] | None = None) -> int:
    """Run `forkpoint SUBCOMMAND …`; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if arguments in (["--version"], ["version"]):
        print(version("forkpoint-policies"))
        return 0
    if not arguments or arguments[0] not in commands:
        known = ", ".join(sorted(commands)) or "none; install forkpoint-server or forkpoint-clients"
        is_error = bool(arguments) and arguments[0] not in ("-h", "--help", "help")
        prefix = (
            f"forkpoint: there is no command {arguments[0]!r}; "
            if is_error
            else "usage: forkpoint COMMAND [ARGUMENTS …]\n"
        )
        print(f"{prefix}commands: {known}", file=sys.stderr if is_error else sys.stdout)
        return 2 if is_error else 0
    run: Callable[[list[str]], int | None] = commands[arguments[0]].load()
    return run(arguments[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
