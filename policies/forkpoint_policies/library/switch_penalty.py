"""TIP: a thought is not to be left too soon."""

from forkpoint_policies.spec.connectors import SWITCH_WORDS

from ._entry import Entry, Listed, Number, Text, param

ENTRY = Entry(
    name="switch-penalty",
    description=(
        "Lowers the logits of words that switch to another thought by `alpha`, for the first `beta` tokens of each "
        "thought; a thought begins with the reasoning, and at each such word."
    ),
    source="arXiv:2501.18585",
    caution=(
        "[unconfirmed]: the paper gives alpha and beta, but lists no words; the default `words`, in any case, are ours."
    ),
    compared="paper only, 2026-11-26: alpha 3, beta 600; differs: the words are ours.",
    parameters={
        "alpha": Number(3.0, 0.01, 100, "how far the logits are lowered"),
        "beta": Number(600, 1, 1_000_000, "for how many tokens of a thought", whole=True),
        "words": Text(", ".join(SWITCH_WORDS), "the words, separated by commas"),
    },
    rules=[
        {
            "when": {"region": "reasoning", "words": Listed("words"), "since_connector_below": param("beta")},
            "do": {"suppress": {"words": Listed("words"), "bias": param("alpha", times=-1.0)}},
        }
    ],
)
