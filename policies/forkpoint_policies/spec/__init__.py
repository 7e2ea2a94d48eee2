"""The policy language: what a user writes. pydantic only, so that clients can import it."""

from .actions import MAX_TEXT, Amplify, EndReasoning, Force, Observe, Stop, Suppress, Truncate
from .conditions import Previous, When
from .errors import InputError
from .fields import (
    MAX_BRANCHES,
    MAX_NAME,
    MAX_RULES,
    MAX_TOKENS,
    MAX_WINDOW,
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

PolicyError = InputError
"""The name that releases before 0.2 gave it."""

__all__ = [
    "DEFAULT_FORK_THRESHOLD_NATS",
    "MAX_BRANCHES",
    "MAX_NAME",
    "MAX_RULES",
    "MAX_TEXT",
    "MAX_TOKENS",
    "MAX_WINDOW",
    "SCHEMA",
    "Amplify",
    "Branch",
    "Control",
    "Do",
    "EndReasoning",
    "EntropyTemperature",
    "Force",
    "Growing",
    "InputError",
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
