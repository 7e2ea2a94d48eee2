"""The folder of `--vectors`: a safetensors file for each vector or readout, named as the artefact."""

from __future__ import annotations

from pathlib import Path

from forkpoint_policies.hidden.artefact import MAX_BYTES, SUFFIX, Artefact, check_artefact_name, read_artefact
from forkpoint_policies.spec import InputError

OPTION = "--vectors"


def read_folder(folder: Path) -> dict[str, Artefact]:
    """The artefacts of a folder, by name. Raises InputError with the file that is wrong."""
    if not folder.is_dir():
        raise InputError(OPTION, f"{folder} is not a folder; give one with a {SUFFIX} file for each vector and readout")
    found = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        name = file.name.removesuffix(SUFFIX)
        check_artefact_name(name, str(file))
        try:
            with file.open("rb") as opened:
                raw = opened.read(MAX_BYTES + 1)  # of a larger file, enough to see that it is
        except OSError as error:
            raise InputError(str(file), f"cannot be read: {error.strerror}") from None
        found[name] = read_artefact(raw, str(file))
    return found
