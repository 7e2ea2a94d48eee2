"""The policy language: what a user writes. pydantic only, so that clients can import it."""

from .actions import MOST_TEXT, Amplify, EndReasoning, Force, Observe, Stop, Suppress, Truncate
from .conditions import Previous, When
from .errors import PolicyError
from .fields import (
    MOST_BRANCHES,
    MOST_NAME,
    MOST_RULES,
    MOST_TOKENS,
    MOST_WINDOW,
    EntropyTemperature,
    Match,
    Name,
    Number,
    Probability,
    Schedule,
    Strict,
    Tokens,
    is_name,
)
from .policy import DEFAULT_FORK_THRESHOLD_NATS, SCHEMA, Control, Do, Policy, Rule, parse_policy
from .tree_actions import Branch, Growing, Probe, Resume, Sample, Select

__all__ = [
    "DEFAULT_FORK_THRESHOLD_NATS",
    "MOST_BRANCHES",
    "MOST_NAME",
    "MOST_RULES",
    "MOST_TEXT",
    "MOST_TOKENS",
    "MOST_WINDOW",
    "SCHEMA",
    "Amplify",
    "Branch",
    "Control",
    "Do",
    "EndReasoning",
    "EntropyTemperature",
    "Force",
    "Growing",
    "Match",
    "Name",
    "Number",
    "Observe",
    "Policy",
    "PolicyError",
    "Previous",
    "Probability",
    "Probe",
    "Resume",
    "Rule",
    "Sample",
    "Schedule",
    "Select",
    "Stop",
    "Strict",
    "Suppress",
    "Tokens",
    "Truncate",
    "When",
    "is_name",
    "parse_policy",
]
