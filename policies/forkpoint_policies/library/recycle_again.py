"""Recycling as its authors do it: where a thinking word is the likeliest token, the position is computed again."""

from forkpoint_policies.spec.connectors import THINKING_WORDS

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="recycle-again",
    description=(
        "Where one of 15 capitalised words is the likeliest token, at half of these positions by chance, computes the "
        "position a second time, with a layer's output for the last token in place of its input, and draws the token "
        "from that: representation recycling, where the authors do it."
    ),
    source="arXiv:2506.02867",
    caution=(
        "Needs a server with --recycle-layers, this layer among them; without it, requests are rejected. A step in "
        "which it fires takes three forward passes in place of one, for all requests of the batch. About 20% more "
        "right answers are claimed, on the 30 questions of AIME 24, greedily, by the authors alone, for layer 23 of "
        "the 32 of DeepSeek-R1-Distill-Llama-8B. Compare it with the placebo, which does the same at other positions."
    ),
    compared=(
        "ChnQ/MI-Peaks src/applications/RR_model.py at b9bb570723 (stored as hhh2210/MI-Peaks) and its data, "
        "2026-11-28: the likeliest token, a chance of one half, the layer's output as its input for the last token, "
        "layer 23, the words; differs: what is stored of the last token is that of the first pass, where the authors' "
        "cache gets it from both, one position apart, and the second pass reads both; drawn as the request samples, "
        "where the authors take the likeliest; 'The' and 'That' are left out."
    ),
    rules=[
        {
            "when": {
                "words": THINKING_WORDS,
                "match": "token",
                "connector_likeliest": True,
                "probability": param("probability"),
            },
            "do": {"recycle": {"layer": param("layer"), "from": "again"}},
        }
    ],
    parameters={
        "layer": Number(23, 0, 1023, "the layer that reads its own output; the first of the model is 0", whole=True),
        "probability": Number(0.5, 0.0, 1.0, "at how many of the positions"),
    },
)
