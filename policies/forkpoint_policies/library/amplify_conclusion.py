"""More conclusions at forks."""

from ..spec import Amplify, Do, Policy, Rule, When
from ._entry import Entry

ENTRY = Entry(
    policy=Policy(
        name="amplify-conclusion",
        description="Raises the logits of conclusion words by 2 at forks inside the reasoning.",
        rules=(
            Rule(
                when=When(entropy_above="fork", region="reasoning"),
                do=Do(amplify=Amplify(connectors=("conclusion",), bias=2.0)),
            ),
        ),
    ),
    caution="No paper reports this rule by itself; the strength is a starting point, not a finding.",
)
