"""After the answer, one more thinking word, again and again until a budget is spent."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="keep-thinking",
    description=(
        "Puts a thinking word in the place of the answer's end and lets the model go on, until 4096 tokens are spent."
    ),
    source="",
    caution=(
        "No paper reports this rule: test-time scaling by thinking tokens is `think-again`. Longer does not mean "
        "better: compare at equal length, and with a random word (keep-thinking.placebo)."
    ),
    rules=[{"do": {"resume": {"text": param("text"), "budget_tokens": param("budget_tokens")}}}],
    parameters={
        "text": Text("Wait", "what is written in place of the end"),
        "budget_tokens": Number(4096, 1, 1_000_000_000, "tokens after which no further word is written", whole=True),
    },
)
