"""What a client may send as a policy: well-formed policies, and the same with parts that are wrong, huge, deep
or odd."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from forkpoint_policies.spec import ACTIONS, Truncate, When
from forkpoint_policies.spec.connectors import FAMILIES

ODD_TEXTS = (
    "", " ", "\0", "\ud800", "wait\u200b", "\uff57\uff41\uff49\uff54", "w\u0430it",
    "\u202etiaw", "İ" * 64, "ß" * 64, "ΐ" * 64, "a" * 65, "a" * 10_000,
    "e\u0301" * 30, "\n", "\r\nX-Evil: 1", "../../etc/passwd", "%2e%2e%2f", "\U0001f600", "\ufeff", "等" * 64, "{}",
    "'\"`$(id)",
)  # fmt: skip
ODD_NUMBERS = (
    -1, 0, 2**31, 2**63, 10**30, -(10**30), True, 1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
    10**4000,
)  # fmt: skip
SHORT_ACTIONS: tuple[dict[str, Any], ...] = (
    {"observe": {}},
    {"stop": {}},
    {"temperature": 0.5},
    {"suppress": {"words": ["wait"]}},
)
"""What a hundred thousand rules may do that can still be sent."""
WHERE_NUMBERS_STAND = sorted(
    name for name in When.model_fields if name not in ("connectors", "words", "match", "previous", "region")
)

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=8), st.sampled_from(sorted(FAMILIES)))
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(-3, 600), st.floats())
listed = st.one_of(
    st.lists(texts, max_size=6), st.just(["a"] * 100_000), st.lists(numbers, max_size=6), st.just(list(range(5000)))
)
matches = st.sampled_from(["any_case", "cased", "token", "bare_token", "x"])
tokens = st.fixed_dictionaries(
    {}, optional={"connectors": listed, "words": listed, "token_ids": listed, "match": matches}
)
biases = st.one_of(
    numbers,
    st.fixed_dictionaries(
        {"shape": st.sampled_from(["linear", "triangular", "x"])}, optional={"over": numbers, "start": numbers}
    ),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)
tree_fields = st.fixed_dictionaries(
    {},
    optional={
        "width": numbers,
        "max_branches": numbers,
        "extract": texts,
        "answers": numbers,
        "text": texts,
        "agreement": numbers,
    },
)
cuts = st.dictionaries(st.sampled_from(sorted(Truncate.model_fields)), numbers, max_size=2)
actions = st.one_of(
    st.fixed_dictionaries({"suppress": tokens.flatmap(lambda one: biases.map(lambda bias: {**one, "bias": bias}))}),
    st.fixed_dictionaries({"amplify": tokens.flatmap(lambda one: biases.map(lambda bias: {**one, "bias": bias}))}),
    st.fixed_dictionaries(
        {"force": st.fixed_dictionaries({"text": texts}, optional={"instead_of": st.one_of(tokens, texts)})}
    ),
    st.fixed_dictionaries({"temperature": numbers}),
    st.fixed_dictionaries(
        {"truncate": st.dictionaries(st.sampled_from(sorted(Truncate.model_fields)), numbers, max_size=2)}
    ),
    st.sampled_from(["branch", "probe", "sample", "resume"]).flatmap(
        lambda name: st.fixed_dictionaries({name: tree_fields})
    ),
    st.just({"observe": {}}),
    *(
        st.fixed_dictionaries({name: st.dictionaries(st.sampled_from(sorted(one.fields.model_fields)), numbers)})
        for name, one in ACTIONS.items()
    ),
    anything,
)
conditions = st.one_of(
    st.dictionaries(st.sampled_from(WHERE_NUMBERS_STAND), numbers, max_size=3),
    st.fixed_dictionaries({"previous": tokens}),
    st.fixed_dictionaries({"since_connector_below": numbers, "words": listed}),
    anything,
)
rules = st.one_of(st.fixed_dictionaries({"do": actions}, optional={"when": conditions}), anything)


def controlled(rule: Any, depth: int) -> Any:
    """The placebo of the placebo … of a rule."""
    for _ in range(depth):
        rule = {"do": {"control": {"like": rule, "match": "probability"}}}
    return rule


deep = st.builds(controlled, rules, st.sampled_from([1, 2, 50, 5000]))
policies = st.one_of(
    st.fixed_dictionaries(
        {"rules": st.lists(st.one_of(rules, deep), max_size=4)}, optional={"name": texts, "shadow": anything}
    ),
    st.sampled_from(SHORT_ACTIONS).map(lambda action: {"rules": [{"do": action}] * 100_000}),
    st.fixed_dictionaries({"rules": st.lists(rules, max_size=2)}).flatmap(
        lambda policy: st.dictionaries(texts, anything, max_size=2).map(lambda more: {**policy, **more})
    ),
    anything,
)
