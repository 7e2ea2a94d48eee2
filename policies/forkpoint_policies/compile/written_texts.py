"""Texts that a rule writes, as tokens of the served model; the end of its reasoning among them."""

from __future__ import annotations

from forkpoint_policies.spec import ANSWER, InputError

from .compilation import Compilation
from .compiled_policy import Insertion
from .deciding_tokens import marker_tokens
from .program import NO_TOKEN, TokenSet
from .word_automaton import ANY_STATE

MAX_FORCED = 64
MAX_WRITTEN = 256
"""Of a probe's texts, which are part of a prompt: no request is forced to write them."""


def text_tokens(build: Compilation, text: str, field: str, most: int = MAX_FORCED) -> list[int]:
    """A text's tokens, `most` at most. Raises InputError for one that the tokenizer does not give back."""
    encode = build.target.encode
    if encode is None:
        raise InputError(field, "cannot be written: the served model has no tokenizer")
    tokens = encode(text)
    written = b"".join(build.target.vocabulary.tokens[token] for token in tokens)
    if written != text.encode(errors="replace"):
        came = written.decode(errors="replace")
        raise InputError(
            field, f"{text!r} does not come back from the served model's tokenizer; it comes back as {came!r}"
        )
    if len(tokens) > most:
        raise InputError(field, f"is {len(tokens)} tokens for the served model; {most} at most")
    return tokens


def reasoning_end(build: Compilation, field: str) -> list[int]:
    """The tokens that end the reasoning. Raises InputError where none are known."""
    regions = build.target.regions
    if not regions.reasoning_end:
        start = "start the server with a --reasoning-parser that names the marker that ends it"
        raise InputError(field, f"cannot end the reasoning: {regions.unfollowed or start}")
    return list(regions.reasoning_end)


def check_end_token(build: Compilation, field: str) -> None:
    """Raises InputError where no single token stands for the end of the reasoning, of which the rank is needed."""
    end = reasoning_end(build, field)
    if build.target.reasoning_end == NO_TOKEN:
        first = build.target.vocabulary.tokens[end[0]].decode(errors="replace")
        raise InputError(
            field,
            f"needs a token with which only the end of the reasoning begins; this model writes {len(end)} tokens, "
            f"and other texts begin with the first, {first!r}",
        )


def end_of_reasoning(build: Compilation, field: str) -> TokenSet:
    """The tokens at which the end of the reasoning is decided."""
    end = reasoning_end(build, field)
    if build.marker is None:
        return TokenSet([end[0]], [ANY_STATE])
    entries = marker_tokens(end, build.marker, build.automaton, build.target.vocabulary)
    acts_on = {build.target.vocabulary.tokens[token].decode(errors="replace") for _, token in entries}
    build.warnings.append(
        f"{field}: the end of the reasoning is {len(end)} tokens for this model; the rule acts on the one that "
        f"decides it: {', '.join(map(repr, sorted(acts_on)[:4]))}"
    )
    return TokenSet([token for _, token in entries], [state for state, _ in entries])


def around_end(build: Compilation, before: str, after: str, field: str, after_name: str = "after") -> Insertion:
    """The end of the reasoning between two texts of a probe. Raises InputError for one that cannot be written."""
    marker = tuple(reasoning_end(build, field))
    written = after.replace(ANSWER, "")
    before_tokens = text_tokens(build, before, f"{field}.before", MAX_WRITTEN) if before else []
    after_tokens = text_tokens(build, written, f"{field}.{after_name}", MAX_WRITTEN) if written else []
    return Insertion(before, tuple(before_tokens), marker, after, tuple(after_tokens))
