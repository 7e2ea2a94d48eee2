"""Atheris on what reads a policy: YAML and JSON bytes, through the parser and the compiler. `make fuzz` runs it.

Atheris mutates towards branches that no input reached before. Any exception but an InputError ends the run, and its
input is left in a file `crash-…`. It has wheels for fewer Pythons than Forkpoint runs on, so it is not in the lock.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["forkpoint_policies"]):
    from forkpoint_policies.compile.compiler import compile_policy
    from forkpoint_policies.library import LIBRARY
    from forkpoint_policies.spec import InputError

from forkpoint_server.policies.registry import read_policy
from tests.unit.policies.vocabularies import TARGET


def read(data: bytes) -> None:
    """One case: the file of a policy."""
    FILE.write_bytes(data)
    with suppress(InputError):
        compile_policy(read_policy(FILE), TARGET).program.pack()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE, corpus = Path(folder) / "policy.yaml", Path(folder) / "corpus"
        corpus.mkdir()
        for name, entry in LIBRARY.items():
            (corpus / name).write_text(entry.policy.model_dump_json(exclude_unset=True))
        atheris.Setup([*sys.argv, str(corpus)], read)
        atheris.Fuzz()
