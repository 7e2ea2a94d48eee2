"""EDT: the temperature as a function of the entropy."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="entropy-temperature",
    description="Multiplies the temperature by t0 * n ^ (theta / H), with H the entropy in nats.",
    source="arXiv:2403.14541",
    caution="Made for translation and summaries, not for reasoning. The factor is not let below 0.01.",
    compared="paper only, 2026-11-26: T0 N^(theta / H); differs: not below 0.01.",
    parameters={
        "t0": Number(1.0, 0.01, 100, "the factor at infinite entropy"),
        "n": Number(0.8, 0.01, 1, "the base"),
        "theta": Number(1.5, 0.01, 100, "the exponent, in nats"),
    },
    rules=[{"do": {"temperature": {"scale": param("t0"), "base": param("n"), "exponent": param("theta")}}}],
)
