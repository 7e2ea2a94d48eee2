"""Recycling: the words at which hidden states say most about the answer are read with a layer run twice."""

from forkpoint_policies.spec.connectors import THINKING_WORDS

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="recycle",
    description=(
        "Runs a layer a second time, on its own output, for each of 15 capitalised words in the reasoning, at half of "
        "them by chance: a variant of representation recycling, one position later than the authors'."
    ),
    source="arXiv:2506.02867",
    caution=(
        "Needs a server with --recycle-layers, this layer among them; without it, requests are rejected. The authors "
        "run the layer again where the word is the likeliest token, so that another may be drawn instead; here the "
        "word stays, and what follows it depends on the second pass. About 20% more right answers are claimed, on the "
        "30 questions of AIME 24, greedily, by the authors alone, for layer 23 of the 32 of DeepSeek-R1-Distill-Llama-"
        "8B. Compare it with the placebo, which does the same at other positions."
    ),
    compared=(
        "ChnQ/MI-Peaks src/applications/RR_model.py at b9bb570723 (stored as hhh2210/MI-Peaks) and its data, "
        "2026-11-27: one more pass of the layer on its own output, layer 23, a chance of one half, the words; differs: "
        "the token that is the word is read so, not the one before it; keys and values are those of the first pass, "
        "where the authors' cache gets those of both; only in the reasoning; 'The' and 'That' are left out."
    ),
    rules=[
        {
            "when": {
                "region": "reasoning",
                "previous": {"words": THINKING_WORDS, "match": "token"},
                "probability": param("probability"),
            },
            "do": {"recycle": {"layer": param("layer"), "from": "here"}},
        }
    ],
    parameters={
        "layer": Number(23, 0, 1023, "the layer that is run again; the first of the model is 0", whole=True),
        "probability": Number(0.5, 0.0, 1.0, "at how many of the words"),
    },
)
