"""Writes the option names of a vLLM: `python -m tools.vllm_options` for the installed one.

For a supported version that is not installed, unpack its wheel and put the folder first:
`VLLM_TARGET_DEVICE=cpu PYTHONPATH=FOLDER python -m tools.vllm_options`. The table is
`server/forkpoint_server/vllm_options/VERSION.txt`; tests compare it with the installed vLLM.
"""

from __future__ import annotations

import sys

from forkpoint_server.vllm_options import TABLES


def parser_options() -> list[str]:
    """What vLLM's own parser accepts."""
    from forkpoint_server.vllm_seam import FlexibleArgumentParser, make_arg_parser

    return sorted(make_arg_parser(FlexibleArgumentParser())._option_string_actions)


def main() -> int:
    """Write the table; returns the exit status."""
    from forkpoint_server.vllm_seam import VLLM_VERSION

    table = TABLES / f"{VLLM_VERSION.partition('+')[0]}.txt"
    table.write_text("\n".join(parser_options()) + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
