"""Converts a GGUF file to a directory that vLLM serves, in bfloat16: `python convert.py FILE.gguf DIRECTORY`.

A program of its own: it needs gguf and accelerate (convert.txt), which the packages do not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main(file: Path, directory: Path) -> None:
    """Write weights, configuration, tokenizer and chat template; print the name that the file has for itself."""
    where, name = str(file.parent), file.name
    quantised = GgufConfig(gguf_file=name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        where, gguf_file=name, dtype=torch.bfloat16, quantization_config=quantised
    )
    for attribute in ("hf_quantizer", "is_quantized"):  # its weights are plain now, and are to be saved as such
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(directory)
    print(json.loads((directory / "config.json").read_text()).get("_model_name_or_path", ""))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
