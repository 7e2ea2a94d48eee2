"""Words in a stream of tokens: what compiled policies flag, compared with a plain search through the text."""

from __future__ import annotations

import itertools
from functools import lru_cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.vocabulary import Vocabulary, is_word_character
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, build_automaton
from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies.factories import compiled, warnings
from tests.unit.policies.vocabularies import VOCABULARY, token, tokens

WORDS = (
    "wait", "so", "now", "other", "another", "but", "double-check", "check", "in", "in conclusion", "let", "let's",
    "café", "également", "等等", "?!",
)  # fmt: skip
PIECES = (
    *WORDS, "Wait", "WAIT", "know", "snow", "Other", "button", "Double-Check", "double-", "recheck", "conclusion",
    "Également", "ÉGALEMENT", "CAFÉ", "é", "ment", "wai", "dou", "ble", "n c", "x", "s", "ing", "'", "_", "3", "-", "?",
    "!", " ", "  ", "\n", ",", ".", "(", '"', "“", "”", "—", "…", "。", "、", "等", "in ",
)  # fmt: skip


def program_of(*words: str) -> Program:
    """A policy with a rule for each word."""
    return compiled({"rules": [{"do": {"suppress": {"words": [word]}}} for word in words]})


def completed(program: Program, stream: list[int], words: tuple[str, ...]) -> list[set[str]]:
    """The words that each token of a stream completes according to the program of these words."""
    state, flags = FREE, []
    for one in stream:
        flags.append(
            {words[rule.number] for rule in program.rules if counts(rule.target.tokens, rule.target.states, one, state)}
        )
        state, _ = program.follow([one], state)
    return flags


def counts(members: list[int], states: list[int], one: int, state: int) -> bool:
    return any(member == one and wanted in (ANY_STATE, state) for member, wanted in zip(members, states, strict=True))


def flagged(written: str | bytes, *words: str) -> list[set[str]]:
    return completed(program_of(*words), tokens(written), words)


def stands_completed(word: str, stream: list[int], cased: bool = False) -> bool:
    """Whether the last token completes the word, by search: it stands in the text, ends with or inside that token, and
    is whole.

    The next token is not known yet: a word that ends exactly with the token counts.
    """
    written = b"".join(VOCABULARY.tokens[one] for one in stream)
    before = len(written) - len(VOCABULARY.tokens[stream[-1]])
    text = written.decode(errors="ignore")
    for start in range(len(text) - len(word) + 1):
        end = start + len(word)
        found = text[start:end] if cased else text[start:end].lower()
        if found != word or len(text[:end].encode()) <= before:
            continue
        starts = start == 0 or not (is_word_character(text[start - 1]) and is_word_character(text[start]))
        following = text[end] if end < len(text) else "x"  # in the middle of a character, the next one may be a letter
        ends = text[:end].encode() == written or not (is_word_character(text[end - 1]) and is_word_character(following))
        if starts and ends:
            return True
    return False


def tokenise(text: str, random: Random) -> list[int]:
    """Any tokenisation of a text, also through its characters where these are letters.

    Other characters stay whole: after a piece of one, the automaton cannot know that it is not a letter.
    """
    written, inside, offset = text.encode(), set[int](), 0
    for character in text:
        size = len(character.encode())
        inside.update(range(offset + 1, offset + size) if not is_word_character(character) else ())
        offset += size
    stream, offset = [], 0
    while offset < len(written):
        fitting = [one for one in starting_with(written[offset]) if written.startswith(VOCABULARY.tokens[one], offset)]
        fitting = [one for one in fitting if offset + len(VOCABULARY.tokens[one]) not in inside]
        longer = [one for one in fitting if len(VOCABULARY.tokens[one]) > 1]
        stream.append(random.choice(longer if longer and random.random() < 0.6 else fitting))
        offset += len(VOCABULARY.tokens[stream[-1]])
    return stream


@lru_cache
def starting_with(byte: int) -> list[int]:
    return [
        one
        for one, written in enumerate(VOCABULARY.tokens)
        if written[:1] == bytes([byte]) and one not in VOCABULARY.specials
    ]


def check_against_search(words: tuple[str, ...], stream: list[int]) -> None:
    for position, found in enumerate(completed(program_of(*words), stream, words)):
        expected = {word for word in words if stands_completed(word, stream[: position + 1])}
        assert found == expected, [VOCABULARY.tokens[one] for one in stream[: position + 1]]


@pytest.mark.slow
@given(
    text=st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=1000)
def test_a_token_is_flagged_just_when_a_whole_word_stands(text: str, random: Random) -> None:
    check_against_search(WORDS, tokenise(text, random))


MADE_UP = st.text(st.sampled_from("aAb'- 。é"), min_size=1, max_size=12)


@pytest.mark.slow
@given(
    words=st.lists(
        MADE_UP.map(lambda text: text[:4].strip().lower()).filter(bool), min_size=1, max_size=4, unique=True
    ),
    text=MADE_UP,
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=400)
def test_made_up_overlapping_words_are_flagged_just_as_by_search(words: list[str], text: str, random: Random) -> None:
    check_against_search(tuple(words), tokenise(text, random))


@given(
    before=st.sampled_from(["", " ", "x", "wait", "so. ", "\n"]),
    after=st.sampled_from(["", " ", "x", ".", "!\n"]),
    random=st.randoms(use_true_random=False),
    offsets=st.sets(st.integers(1, 5)),
)
def test_a_word_of_characters_without_case_is_found_in_any_pieces(
    before: str, after: str, random: Random, offsets: set[int]
) -> None:
    stream, written = tokenise(before, random), "等等".encode()
    for start, end in itertools.pairwise([0, *sorted(offsets), 6]):
        piece = written[start:end]
        stream += [token(piece)] if piece in VOCABULARY.tokens else list(piece)  # token i writes byte i
    flags = completed(program_of("等等"), [*stream, *tokenise(after, random)], ("等等",))
    assert [position for position, found in enumerate(flags) if found] == [len(stream) - 1]


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("Wait", "wait"), (" wait", "wait"), ("W|ait", "wait"), (" w|a|it", "wait"), ("\nWait", "wait"),
        ("\n\n|W|A|I|T", "wait"), ('"|Wait', "wait"), ('"Wait', "wait"), ("“Wait", "wait"), (".|wait", "wait"),
        ("so|, wait", "wait"), ("(wait)", "wait"), ("...wa|it", "wait"), ("let|'|s", "let's"), ("let's", "let's"),
        ("double|-check", "double-check"), ("dou|ble-ch|eck", "double-check"), ("in| conclusion", "in conclusion"),
        (" in| |conclusion", "in conclusion"), ("in con|clusion", "in conclusion"), ("é|gale|ment", "également"),
        ("É|gale|ment", "également"), ("等|等", "等等"), ("É|t|é", "été"), ("É|T|É", "été"),
        ("x|等等", "等等"), ("wait|?!", "?!"), (b"\xc3|\xa9g|a|l|e|ment", "également"),
        (b" \xc3|\xa9galement", "également"), (b"caf|\xc3|\xa9 ", "café"), ("x等".encode() + b"|\xe7\xad|\x89", "等等"),
    ],
)  # fmt: skip
def test_spellings_of_a_word(written: str | bytes, word: str) -> None:
    *earlier, last = flagged(written, word)
    assert (earlier, last) == ([set()] * len(earlier), {word})


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("know", "now"), ("k|now", "now"), ("kn|ow", "now"), ("s|now", "now"), ("_|now", "now"), ("3|now", "now"),
        ("another", "other"), ("an|other", "other"), (" an|other", "other"), ("button", "but"), (" waiting", "wait"),
        (" wai", "wait"), ("wait_", "wait"), ("wait3", "wait"), ("é|w|ait", "wait"), (b"\xc3|\xa9|wait", "wait"),
        ("in|  |conclusion", "in conclusion"),
        ("in|\n|conclusion", "in conclusion"), ("in|conclusion", "in conclusion"), ("double| check", "double-check"),
        ("double|check", "double-check"),
    ],
)  # fmt: skip
def test_other_texts_are_not_flagged(written: str | bytes, word: str) -> None:
    found = flagged(written, word)
    assert found == [set()] * len(found)


def test_a_word_at_a_tokens_end_counts_though_the_next_could_continue_it() -> None:
    """The limitation of deciding token by token: "Wait" is taken for the word, even where "ing" would have followed."""
    assert flagged("Wait|ing", "wait") == [{"wait"}, set()]
    assert flagged("Waiting", "wait") == [set()], "within a token it is known"


def test_a_word_counts_each_time() -> None:
    assert flagged("Wait|,| |w|ait| |wait but", "wait") == [{"wait"}, set(), set(), set(), {"wait"}, set(), {"wait"}]


def test_words_within_words() -> None:
    assert flagged("double|-|check", "double-check", "check") == [set(), set(), {"double-check", "check"}]
    assert flagged("let|'s", "let", "let's") == [{"let"}, {"let's"}]
    assert flagged("in| con|clusion", "in", "in conclusion") == [{"in"}, set(), {"in conclusion"}]


def test_a_token_that_writes_nothing_bounds_words() -> None:
    end = VOCABULARY.size - 1
    assert completed(program_of("wait"), [token("k"), end, token("wait")], ("wait",)) == [set(), set(), {"wait"}]


def test_spaces_around_a_word_mean_nothing() -> None:
    assert flagged("Wait", " wait ") == [{" wait "}]
    assert flagged("a|wait", " wait ") == [set(), set()]


@pytest.mark.parametrize("word", ["naïve", "等", "wa—it"])
def test_a_word_that_the_vocabulary_cannot_write(word: str) -> None:
    ascii_only = Vocabulary(tuple(bytes([value]) for value in range(128)))
    with pytest.raises(InputError, match=f"cannot write the word '{word}'") as caught:
        build_automaton(["ok", word], ascii_only, "policy.rules[2].do.suppress.words")
    assert caught.value.field == "policy.rules[2].do.suppress.words[1]"


def test_a_word_of_which_only_the_end_can_be_written() -> None:
    with pytest.raises(InputError, match="cannot write the word 'wait'"):
        build_automaton(["wait"], Vocabulary((b"wa_", b"ait", b"it", b" ")))
    build_automaton(["wait"], Vocabulary((b" wa", b"it")))


def test_a_word_that_is_not_text() -> None:
    with pytest.raises(InputError, match="is not valid text") as caught:
        build_automaton(["ok", "\ud800"], VOCABULARY, "words")
    assert caught.value.field == "words[1]"


def cased_program(*rules: tuple[str, str]) -> Program:
    """A policy with a rule for each word and how it is matched."""
    return compiled({"rules": [{"do": {"suppress": {"words": [word], "match": match}}} for word, match in rules]})


def flagged_as(written: str | bytes, *rules: tuple[str, str]) -> list[set[str]]:
    names = tuple(f"{word} {match}" for word, match in rules)
    return completed(cased_program(*rules), tokens(written), names)


@pytest.mark.parametrize(
    ("written", "word", "hit"),
    [
        ("Wait", "Wait", True), (" Wait", "Wait", True), ("W|ait", "Wait", True), ("W|a|it", "Wait", True),
        ("“Wait", "Wait", True), ("\nWait", "Wait", True), ("wait", "Wait", False), (" wait", "Wait", False),
        ("w|ait", "Wait", False), ("WAIT", "Wait", False), ("W|A|I|T", "Wait", False), ("\n\nwait", "Wait", False),
        ("WAIT", "WAIT", True), ("W|A|I|T", "WAIT", True), ("(wait)", "wait", True), ("É|gale|ment", "Également", True),
        ("é|gale|ment", "Également", False), ("so, so", "So", False), ("x|Wait", "Wait", False),
        ("Wait|ing", "Wait", True), ("double|-|Check", "double-check", False),
    ],
)  # fmt: skip
def test_a_cased_word_matches_as_it_is_written(written: str, word: str, hit: bool) -> None:
    stream = [one for piece in written.encode().split(b"|") for one in spelled(piece)]
    found = completed(cased_program((word, "cased")), stream, (word,))
    assert any(found) is hit


def spelled(piece: bytes) -> list[int]:
    """One token if there is one, else its bytes; token i writes byte i."""
    return [token(piece)] if piece in VOCABULARY.tokens else list(piece)


@given(
    words=st.lists(
        st.tuples(st.sampled_from([*WORDS, "Wait", "WAIT", "Double-Check", "In", "Also"]), st.booleans()),
        min_size=1,
        max_size=6,
        unique=True,
    ),
    text=st.lists(st.sampled_from([*PIECES, "In", "Check", "in Conclusion"]), max_size=12).map("".join),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_cased_words_and_others_in_one_policy_are_flagged_just_as_by_search(
    words: list[tuple[str, bool]], text: str, random: Random
) -> None:
    stream = tokenise(text, random)
    rules = [(word, "cased" if cased else "any_case") for word, cased in words]
    flags = completed(cased_program(*rules), stream, tuple(map(" ".join, rules)))
    for position, found in enumerate(flags):
        so_far = stream[: position + 1]
        expected = {
            f"{word} {match}"
            for word, match in rules
            if stands_completed(word if match == "cased" else word.lower(), so_far, cased=match == "cased")
        }
        assert found == expected, (position, b"".join(VOCABULARY.tokens[one] for one in so_far))


def test_a_token_word_is_one_token_and_nothing_else() -> None:
    once, none = {"Wait bare_token"}, set[str]()
    assert flagged_as("Wait| Wait|wait|W|ait", ("Wait", "bare_token")) == [once, none, none, none, none]
    assert flagged_as("Wait| Wait", (" Wait", "bare_token")) == [none, {" Wait bare_token"}]


def test_a_token_word_is_a_token_with_or_without_white_space() -> None:
    hit, none = {"Wait token"}, set[str]()
    stream = "Wait| Wait|\nWait|wait|W|ait|“Wait|x|Wait"
    assert flagged_as(stream, ("Wait", "token")) == [hit, hit, hit, none, none, none, none, none, hit]


def test_a_token_word_that_is_no_token_is_matched_as_written() -> None:
    policy = {"rules": [{"do": {"suppress": {"words": ["Double-check", "Wait"], "match": "token"}}}]}
    (warning,) = warnings(policy)
    assert "no token of this model is 'Double-check'; it is matched as with match `cased`" in warning
    found = completed(compiled(policy), [*b"Double", *tokens("-check|wait|Wait| Wait")], ("it",))
    assert found[-4:] == [{"it"}, set(), {"it"}, {"it"}]


def test_a_cased_word_that_the_tokenizer_cannot_write_in_this_case() -> None:
    lower = Vocabulary(tuple(bytes([value]) for value in range(128) if not 65 <= value <= 90))
    target = ServedModel(lower, fork_threshold=0.672)
    data = {"rules": [{"do": {"suppress": {"words": ["wait", "Wait"], "match": "cased"}}}]}
    with pytest.raises(InputError, match="cannot write the word 'Wait' in this case") as caught:
        compile_policy(parse_policy(data), target)
    assert caught.value.field == "policy.rules[0].do.suppress.words[1]"
    compile_policy(parse_policy({"rules": [{"do": {"suppress": {"words": ["Wait"]}}}]}), target)
