"""The `pattern`s of a JSON schema: xgrammar prints them as regular expressions, which are written out if they are
few texts that JSON writes as they are."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import xgrammar

from .grammar import ROOT, Grammar, Literal, Reference, Rule, UnreadableGrammarError, parse_grammar, unescape
from .prune import FiniteTexts

_PATTERN = re.compile(r'Regex\("(?P<pattern>(?:[^"\\]|\\.)*)", json_string=true\)')


def write_out_patterns(grammar: Grammar) -> Grammar:
    """The grammar with each pattern that stands for few texts as a choice of these."""
    return {name: _written_out(rule) for name, rule in grammar.items()}


def _written_out(rule: Rule) -> Rule:
    found = _PATTERN.fullmatch(rule.opaque or "")
    if found is None:
        return rule
    try:
        pattern = parse_grammar(str(xgrammar.Grammar.from_regex(unescape(found["pattern"]))))
    except (RuntimeError, UnreadableGrammarError):
        return rule
    texts = FiniteTexts(pattern).of(Reference(ROOT))
    if texts is None or any(json.dumps(text, ensure_ascii=False) != f'"{text}"' for text in texts):
        return rule
    return replace(rule, opaque=None, sequences=tuple((Literal(text),) for text in texts))
