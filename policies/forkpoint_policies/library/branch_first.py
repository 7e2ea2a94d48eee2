"""Decoding tree sketching: a tree at positions of low entropy and high varentropy, and its first answer."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="branch-first",
    description=(
        "Where the entropy at temperature 0.6 is at most 2.5 and the varentropy above 1.5, continues with the 2 "
        "likeliest other tokens as well, up to 48 answers; returns the answer that is finished first, and stops the "
        "others."
    ),
    source="arXiv:2511.00640",
    caution=(
        "Entropies are of all tokens, as in the authors' first version; their vLLM version has the 20 likeliest and "
        "the rest as one. `m` 8 is DTS-Stable, the majority of the first 8, without its early stop at 40% "
        "of 4. The 48 count every answer that started, in the authors' code those that run; the server's "
        "--max-branches bounds them, 16 by default. Branches start a few tokens late, so that the first answer is a "
        "little ahead. The first to be finished is the shortest: compare with `first-finish`."
    ),
    compared=(
        "ZichengXu/Decoding-Tree-Sketching decoding_tree_sketching/kvbatch_decoder.py at 841778ceb8 and "
        "vllm/decoding_tree_sketching/tree_decoder.py at ec0ad9d0aa, 2026-11-26: both bounds and their temperature, "
        "top 3, 48 answers, first that ends; differs: the sampled token is always one of the three, as in the vLLM "
        "version; no early stop of DTS-Stable."
    ),
    rules=[
        {
            "when": {
                "entropy_below": param("entropy"),
                "varentropy_above": param("varentropy"),
                "at_temperature": param("temperature"),
            },
            "do": {
                "branch": {
                    "width": param("width"),
                    "max_branches": param("branches"),
                    "select": "first",
                    "first": param("m"),
                    "extract": param("extract"),
                }
            },
        }
    ],
    parameters={
        "entropy": Number(2.5, 0.0, 50.0, "nats up to which to branch"),
        "varentropy": Number(1.5, 0.0, 1000.0, "nats² above which to branch"),
        "temperature": Number(0.6, 0.01, 100.0, "temperature of both, whatever the request's"),
        "width": Number(2, 1, 16, "other tokens tried at a fork: 2 are the top 3 with the sampled one", whole=True),
        "branches": Number(48, 1, 256, "most answers of the tree", whole=True),
        "m": Number(1, 1, 256, "answers that vote, of those that are finished first: 1, or 8 (DTS-Stable)", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
