"""More reflection at forks."""

from ..spec import Amplify, Do, Policy, Rule, When
from ._entry import Entry

ENTRY = Entry(
    policy=Policy(
        name="amplify-reflection",
        description="Raises the logits of reflection words by 2 at forks inside the reasoning.",
        rules=(
            Rule(
                when=When(entropy_above="fork", region="reasoning"),
                do=Do(amplify=Amplify(connectors=("reflection",), bias=2.0)),
            ),
        ),
    ),
    caution="No paper reports this rule by itself; the strength is a starting point, not a finding.",
)
