"""Look, and change nothing."""

from ..spec import Do, Observe, Policy, Rule, When
from ._entry import Entry

ENTRY = Entry(
    policy=Policy(
        name="observe",
        description="Marks the forks: positions whose entropy is above the model's fork threshold. Changes nothing.",
        rules=(Rule(when=When(entropy_above="fork"), do=Do(observe=Observe())),),
    ),
    caution="High entropy only suggests a fork: of 25 forks verified by resampling, 1 lay in the top 20 % by entropy.",
)
