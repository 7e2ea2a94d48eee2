"""The words that a policy names, and the automaton that follows them in a served model's vocabulary."""

from __future__ import annotations

from forkpoint_policies.spec import InputError, Policy, Previous, Rule, Tokens, When
from forkpoint_policies.spec.connectors import FAMILIES

from .vocabulary import Vocabulary
from .word_automaton import Automaton, AutomatonSizeError, NamedWord, build_automaton

MAX_WORDS = 512


def named_words(tokens: Tokens | When) -> tuple[NamedWord, ...]:
    """The words that a set of tokens or a condition stands for: those of its families, and its own."""
    families = tuple(NamedWord(word) for family in tokens.connectors for word in FAMILIES[family])
    return families + tuple(NamedWord(word, tokens.match != "any_case") for word in tokens.words)


def whole_tokens(tokens: Tokens | When, word: NamedWord, vocabulary: Vocabulary) -> list[int]:
    """The tokens that are a word that is matched by token; empty for other words, and where there is none."""
    if not word.cased or tokens.match not in ("token", "bare_token"):
        return []
    written = word.text.encode(errors="replace")
    found = vocabulary.by_stripped.get(written.strip(), ())
    return [one for one in found if tokens.match == "token" or vocabulary.tokens[one] == written]


def ending_tokens(previous: Previous, vocabulary: Vocabulary) -> list[int]:
    """The tokens that are exactly an ending, where endings are matched by token; empty where no token is one."""
    if previous.ending_match != "token":
        return []
    written = [ending.encode(errors="replace") for ending in previous.endings]
    return [
        one
        for form in written
        for one in vocabulary.by_stripped.get(form.strip(), ())
        if vocabulary.tokens[one] == form
    ]


def _named(rule: Rule) -> list[tuple[str, Tokens | When]]:
    """Everything in a rule that names tokens, by its field."""
    prefix = "do.control.like." if rule.do.control is not None else ""
    original = rule.original
    found: list[tuple[str, Tokens | When]] = [("when", with_families(original.when))]
    if original.when.previous is not None:
        found.append(("when.previous", original.when.previous))
    found += [
        (f"do.{name}", named) for name in ("suppress", "amplify") if (named := getattr(original.do, name)) is not None
    ]
    for name in ("force", "end_reasoning", "stop"):
        part = getattr(original.do, name)
        if part is not None and isinstance(part.instead_of, Tokens):
            found.append((f"do.{name}.instead_of", part.instead_of))
    return [(prefix + name, tokens) for name, tokens in found]


def with_families(when: When) -> When:
    """The condition with the families that it means: `since_connector_below` alone means all of them."""
    if when.since_connector_below is not None and not (when.connectors or when.words):
        return when.model_copy(update={"connectors": tuple(FAMILIES)})
    return when


def policy_automaton(policy: Policy, vocabulary: Vocabulary, path: str, marker: NamedWord | None = None) -> Automaton:
    """The automaton that follows every word and ending of a policy, and a marker of several tokens.

    Raises InputError for one that it cannot follow.
    """
    named = [tokens for rule in policy.rules for _, tokens in _named(rule)]
    words = sorted(
        {word for tokens in named for word in named_words(tokens) if not whole_tokens(tokens, word, vocabulary)}
    )
    words += [] if marker is None or marker in words else [marker]
    as_text = [one for one in named if isinstance(one, Previous) and not ending_tokens(one, vocabulary)]
    endings = sorted({ending for previous in as_text for ending in previous.endings})
    if len(words) + len(endings) > MAX_WORDS:
        raise InputError(f"{path}.rules", f"name {len(words) + len(endings)} different words; {MAX_WORDS} at most")
    if not words and not endings:
        return Automaton(0, {}, {}, {})
    try:
        in_any_case, cased = ([word.text for word in words if word.cased == flag] for flag in (False, True))
        return build_automaton(in_any_case, vocabulary, endings=endings, cased=cased)
    except AutomatonSizeError as error:
        raise InputError(_field_of(error, policy, path), error.message) from None
    except InputError as error:
        parts = [
            (n, part) for n, rule in enumerate(policy.rules) for part, tokens in _named(rule) if _names_words(tokens)
        ]
        if len(parts) == 1:
            raise InputError(f"{path}.rules[{parts[0][0]}].{parts[0][1]}.words", error.message) from None
        raise InputError(f"{path}.rules", f"their words together {error.message}") from None


def _names_words(tokens: Tokens | When) -> bool:
    return bool(tokens.words or tokens.connectors or (isinstance(tokens, Previous) and tokens.endings))


def _field_of(error: AutomatonSizeError, policy: Policy, path: str) -> str:
    """The path of the word or ending that the automaton cannot follow."""
    for number, rule in enumerate(policy.rules):
        for part, tokens in _named(rule):
            endings = tokens.endings if isinstance(tokens, Previous) else ()
            listed = {"endings": endings} if error.ending else {"words": tokens.words, "connectors": tokens.connectors}
            for kind, names in listed.items():
                if kind == "words" and error.cased != (tokens.match != "any_case"):
                    continue
                for index, name in enumerate(names):
                    if error.written in (FAMILIES[name] if kind == "connectors" else (name,)):
                        return f"{path}.rules[{number}].{part}.{kind}[{index}]"
    return f"{path}.rules"
