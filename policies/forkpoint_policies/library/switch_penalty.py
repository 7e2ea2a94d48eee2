"""TIP: a thought is not to be left too soon."""

from forkpoint_policies.spec.connectors import SWITCH_WORDS

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="switch-penalty",
    description=(
        "Lowers the logits of words that switch to another thought by `alpha`, for the first `beta` tokens of each "
        "thought; a thought begins with the reasoning, and at each such word."
    ),
    source="arXiv:2501.18585",
    caution=(
        "[unconfirmed]: the paper gives alpha and beta, but no list of words; these three, in any case, are ours."
    ),
    parameters={
        "alpha": Number(3.0, 0.01, 100, "how far the logits are lowered"),
        "beta": Number(600, 1, 1_000_000, "for how many tokens of a thought", whole=True),
    },
    rules=[
        {
            "when": {"region": "reasoning", "words": SWITCH_WORDS, "since_connector_below": param("beta")},
            "do": {"suppress": {"words": SWITCH_WORDS, "bias": param("alpha", times=-1.0)}},
        }
    ],
)
