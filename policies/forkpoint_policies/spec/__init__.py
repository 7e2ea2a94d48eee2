"""The policy language: what a user writes. pydantic only, so that clients can import it."""

from .actions import MAX_TEXT, Amplify, EndReasoning, Force, Observe, Stop, Suppress, Truncate
from .conditions import CONFIDENCE_TOKENS, Previous, When
from .errors import InputError, name_some, unknown_name
from .fields import (
    MAX_BRANCHES,
    MAX_NAME,
    MAX_RULES,
    MAX_TOKENS,
    MAX_WINDOW,
    EntropyTemperature,
    Match,
    Name,
    NormalizedEntropyTemperature,
    Number,
    Probability,
    ReasoningLengths,
    Schedule,
    Strict,
    Tokens,
    WordMatch,
    is_name,
)
from .policy import DEFAULT_FORK_THRESHOLD_NATS, SCHEMA, Control, Do, Policy, Rule, parse_policy
from .tree_actions import Branch, Probe, Resume, Sample, Select, TreeAction, max_answers, returns_several

PolicyError = InputError
"""The name that releases before 0.2 gave it."""

__all__ = [
    "CONFIDENCE_TOKENS",
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
    "InputError",
    "Match",
    "Name",
    "NormalizedEntropyTemperature",
    "Number",
    "Observe",
    "Policy",
    "PolicyError",
    "Previous",
    "Probability",
    "Probe",
    "ReasoningLengths",
    "Resume",
    "Rule",
    "Sample",
    "Schedule",
    "Select",
    "Stop",
    "Strict",
    "Suppress",
    "Tokens",
    "TreeAction",
    "Truncate",
    "When",
    "WordMatch",
    "is_name",
    "max_answers",
    "name_some",
    "parse_policy",
    "returns_several",
    "unknown_name",
]
