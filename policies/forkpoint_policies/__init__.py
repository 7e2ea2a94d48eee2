"""Policies for forking tokens: the language, the library, and the kernel that applies them inside vLLM."""

from .library import LIBRARY
from .spec import InputError, Policy, Rule, parse_policy

__all__ = ["LIBRARY", "InputError", "Policy", "Rule", "parse_policy"]
