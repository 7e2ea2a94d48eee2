"""p-less: truncation without a parameter."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="p-less",
    description=(
        "Keeps the tokens that are at least as probable as the chance that two samples are the same token, everywhere "
        "or only above an entropy."
    ),
    source="arXiv:2509.23234",
    caution=(
        "One paper. The threshold is taken at the request's temperature, before vLLM's own truncation; the paper's "
        "variant p-less-norm is another one."
    ),
    compared="paper only, 2026-11-26: p at least the sum of squares; differs: none known.",
    parameters={
        "above": Number(
            0.0, 0, 50, "the entropy in nats above which it acts; `fork` is the fork threshold", other="fork"
        ),
    },
    rules=[{"when": {"entropy_above": param("above")}, "do": {"truncate": {"p_less": True}}}],
)
