"""Vectors and readouts as files: what is written is read, and what is wrong is rejected in one line."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from forkpoint_policies.hidden.artefact import MAX_BYTES, Artefact, Model, check_artefact_name, read_artefact
from forkpoint_policies.spec import InputError
from tests.unit.policies.hidden.artefact_files import MODEL, SIZE, VECTOR, changed_file, mlp_readout, readout


@pytest.mark.parametrize("artefact", [VECTOR, readout(), mlp_readout()], ids=["vector", "linear", "mlp"])
def test_what_is_written_is_read(artefact: Artefact) -> None:
    read = read_artefact(artefact.raw, "x", MODEL)
    assert read.to_dict() == artefact.to_dict()
    assert {name: array.tolist() for name, array in read.tensors.items()} == {
        name: array.tolist() for name, array in artefact.tensors.items()
    }
    assert read_artefact(read.raw, "x").digest == artefact.digest


def test_what_it_says_of_itself() -> None:
    shown = VECTOR.to_dict()
    assert shown["layers"] == [2, 10]
    assert shown["scale"] == 1.5
    assert shown["norms"] == {"layer.2": pytest.approx(math.sqrt(55)), "layer.10": pytest.approx(math.sqrt(SIZE))}
    assert readout().to_dict()["threshold"] == 0.85
    assert mlp_readout().to_dict()["threshold"] is None


def test_the_digest_is_that_of_all_it_says() -> None:
    digests = {
        VECTOR.digest,
        replace(VECTOR, suggested=2.0).digest,
        replace(VECTOR, fitted="otherwise").digest,
        replace(VECTOR, tensors={**VECTOR.tensors, "layer.2": -VECTOR.tensors["layer.2"]}).digest,
        replace(VECTOR, tensors={"layer.3": VECTOR.tensors["layer.2"], "layer.10": VECTOR.tensors["layer.10"]}).digest,
    }
    assert len(digests) == 5
    assert replace(VECTOR).digest == VECTOR.digest


WRONG = {
    "empty": (b"", "is not a safetensors file"),
    "a pickle": (pickle.dumps({"weight": [1.0]}), "is not a safetensors file"),
    "cut off": (VECTOR.raw[:-4], "is not a safetensors file"),
    "a header that is no object": ((2).to_bytes(8, "little") + b"[]", "has no metadata"),
    "deep": ((20_000).to_bytes(8, "little") + b"[" * 20_000, "is not a safetensors file"),
    "without metadata": (save({"weight": np.ones(SIZE, np.float32)}), "has no metadata"),
    "kind": (changed_file({"kind": "matrix"}), "must have `kind`, `vector` or `readout`, not 'matrix'"),
    "no kind": (changed_file({"kind": ""}), "must have `kind`, `vector` or `readout`, not None"),
    "architecture": (changed_file({"architecture": ""}), "lack `architecture`"),
    "fitted": (changed_file({"fitted": ""}), "lack `fitted`"),
    "lines": (changed_file({"fitted": "two\nlines"}), "`fitted` must be one line"),
    "long": (changed_file({"source": "x" * 1001}), "`source` must be one line of up to 1000 characters"),
    "size": (changed_file({"hidden_size": "-6"}), "`hidden_size` must be the width"),
    "threshold": (changed_file({"threshold": "nan"}), "`threshold` must be a number, not 'nan'"),
    "output": (changed_file({"output": "text"}), "`output` must be `probability` or `number`, not 'text'"),
    "another tensor": (changed_file(more=np.ones(1, np.float32)), "weight and bias, or w1, b1, w2 and b2, not bias, m"),
    "one less": (changed_file(bias=None), "a readout has the tensors weight and bias"),
    "shape": (changed_file(weight=np.ones(5, np.float32)), r"weight must be \[6\], not \[5\]"),
    "type": (changed_file(weight=np.ones(SIZE)), r"must be float32 \(F32\), not F64"),
    "infinite": (changed_file(weight=np.full(SIZE, np.inf, np.float32)), "weight has values that are not finite"),
    "a vector of no layer": (changed_file({"kind": "vector"}), r"layer\.N, one for each layer, not '(bias|weight)'"),
    "a vector of nothing": (changed_file({"kind": "vector"}, weight=None, bias=None), "not nothing"),
    "units": (mlp_readout(units=1025).raw, "1 to 1024 of them"),
}


@pytest.mark.parametrize(("raw", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_line(raw: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_artefact(raw, "body")
    assert caught.value.field == "body"
    assert "\n" not in str(caught.value)


def test_one_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(InputError, match=r"has 16\.0 MiB; a vector or readout has at most 16"):
        read_artefact(bytes(MAX_BYTES + 1), "body")


def test_one_for_another_model() -> None:
    with pytest.raises(InputError, match=r"is for Qwen3ForCausalLM with 6 dimensions, but the served"):
        read_artefact(VECTOR.raw, "body", Model("Qwen3ForCausalLM", 8))
    with pytest.raises(InputError, match="but the served model is LlamaForCausalLM with 6 dimensions"):
        read_artefact(VECTOR.raw, "body", Model("LlamaForCausalLM", 6))


def test_its_name_is_that_of_a_policy() -> None:
    check_artefact_name("correct-2", "name")
    for wrong in ("", "../correct", "a b", "x" * 65):
        with pytest.raises(InputError, match="is not a name"):
            check_artefact_name(wrong, "name")
