"""Top-n-sigma: truncation by the spread of the logits."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="top-n-sigma",
    description=(
        "Keeps the tokens whose logit is at most `n` standard deviations of all logits below the largest, everywhere "
        "or only above an entropy."
    ),
    source="arXiv:2411.07641",
    caution=(
        "The kept set does not depend on the temperature, so it allows high ones; at temperature 1 it changes little. "
        "Models differ in the spread of their logits, so one `n` is not the same strength on two of them."
    ),
    compared=(
        "Tomorrowdawn/top_nsigma eval_code/my_sampler.py at 28fbd1dc1d, 2026-11-26: max less n deviations of all "
        "logits; differs: a logit at the bound is kept."
    ),
    parameters={
        "n": Number(1.0, 0.01, 100, "how many standard deviations"),
        "above": Number(
            0.0, 0, 50, "the entropy in nats above which it acts; `fork` is the fork threshold", other="fork"
        ),
    },
    rules=[{"when": {"entropy_above": param("above")}, "do": {"truncate": {"top_n_sigma": param("n")}}}],
)
