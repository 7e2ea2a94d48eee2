"""Top-H: truncation by entropy."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="top-h",
    description=(
        "Keeps the likeliest tokens, at most 100, while their entropy is at most `share` of the whole distribution's."
    ),
    source="arXiv:2509.02510",
    caution=(
        "Made for creative writing at high temperatures; little is known of it in reasoning. This is the set of the "
        "paper's text: the kept tokens' own entropy, renormalised, is at most `share` of the whole. The authors' code "
        "instead sums -p log p of the kept tokens as they are, up to `share` of that sum over the 100 likeliest, which "
        "keeps other tokens."
    ),
    compared=(
        "ErfanBaghaei/Top-H-Decoding logit_processor.py at 0744155190, 2026-11-26: share 0.4, the 100 likeliest; "
        "differs: the paper's set, not the code's."
    ),
    parameters={"share": Number(0.4, 0.001, 1, "of the whole entropy")},
    rules=[{"do": {"truncate": {"top_h": param("share")}}}],
)
