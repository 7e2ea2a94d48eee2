"""Dynamic temperature: hotter where the model is less sure."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="dyna-temperature",
    description=(
        "Multiplies the temperature by `low` + (`high` - `low`) * (H / ln V) ^ `exponent`, which rises with the "
        "entropy H of the V tokens."
    ),
    source="llama.cpp, public code, no paper",
    caution=(
        "llama.cpp's default range is 0, which does nothing; these are its temperature 1 and a range of 0.5. There the "
        "entropy is that of the tokens left by earlier samplers, by default 40; here it is that of all, so H / ln V is "
        "smaller."
    ),
    compared=(
        "ggml-org/llama.cpp src/llama-sampling.cpp (temp-ext) at e19fb5f1a3, 2026-11-26: the curve; differs: entropy "
        "and its maximum are of all tokens, theirs of those that earlier samplers left."
    ),
    parameters={
        "low": Number(0.5, 0, 10, "the factor where the model is certain"),
        "high": Number(1.5, 0, 10, "the factor where all tokens are as likely"),
        "exponent": Number(1.0, 0.01, 100, "how the factor rises between them; 1 is a straight line"),
    },
    rules=[{"do": {"temperature": {"low": param("low"), "high": param("high"), "exponent": param("exponent")}}}],
)
