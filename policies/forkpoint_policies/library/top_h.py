"""Top-H: truncation by entropy."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="top-h",
    description=(
        "Keeps the likeliest tokens, at most 100, while their entropy is at most `share` of the whole distribution's."
    ),
    source="Top-H decoding, 2025",
    caution="Made for creative writing at high temperatures; little is known of it in reasoning.",
    parameters={"share": Number(0.4, 0.001, 1, "of the whole entropy")},
    rules=[{"do": {"truncate": {"top_h": param("share")}}}],
)
