"""SEAL: at the end of each paragraph of the reasoning, steer away from thoughts that doubt or start anew."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="seal",
    description=(
        "Adds a vector to the hidden state at the end of each paragraph of the reasoning: the mean state before "
        "thoughts that carry a computation out, less that before thoughts that reflect or change the approach."
    ),
    source="arXiv:2504.07986",
    caution=(
        "Needs a server with --hidden-layers and a vector of the served model by the name `seal`, or the one that "
        "`vector` names: the embedded model has one, for layer 1; for others `forkpoint steer fit` makes one. Without "
        "it, requests are rejected. The embedded model writes no paragraphs: give `ending` a full stop there. Up to "
        "11% more right answers and 11.8% to 50.4% fewer tokens are claimed, by the authors alone. Compare it with a "
        "random direction of the same norm (seal.placebo)."
    ),
    compared=(
        "paper only, 2026-11-27: the vector's definition, its place at the ends of paragraphs, one layer, a factor of "
        "1; differs: a paragraph ends where the text does, not at each token with a blank line in it; the vector that "
        "ships is labelled by the first word of the next thought."
    ),
    rules=[
        {
            "when": {"region": "reasoning", "previous": {"endings": [param("ending")]}},
            "do": {"steer": {"vector": param("vector"), "scale": param("scale"), "from": "here"}},
        }
    ],
    parameters={
        "vector": Text("seal", "the vector: from thoughts that doubt to those that go ahead"),
        "scale": Number(1.0, -8.0, 8.0, "how many times it is added; below 0 it is subtracted"),
        "ending": Text("\n\n", "a thought ends where the text ends so"),
    },
)
