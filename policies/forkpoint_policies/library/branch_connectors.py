"""Branch only between connectors: "Wait" or "Therefore"?"""

from forkpoint_policies.spec.connectors import FAMILIES

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="branch-connectors",
    description=(
        "Where the entropy is high, continues with a connector that was likely instead of the token that was drawn."
    ),
    source="",
    caution="No paper reports this rule; it tests whether the forks that matter are those between connectors.",
    rules=[
        {
            "when": {"entropy_above": param("entropy"), "region": "reasoning"},
            "do": {"branch": {"alternatives": {"connectors": list(FAMILIES)}, "width": param("width")}},
        }
    ],
    parameters={
        "entropy": Number("fork", 0.0, 50.0, "nats above which to branch", other="fork"),
        "width": Number(1, 1, 16, "other connectors tried at a fork", whole=True),
    },
)
