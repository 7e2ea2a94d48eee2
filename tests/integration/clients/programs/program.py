"""What the programs of this folder share: the server they call, and the report they print.

A program is run by an environment of its own (requirements/clients.txt), as its users run it, with `BASE_URL` and
`MODEL` set. It prints one JSON object that the test reads.
"""

import json
import os
from collections.abc import Callable
from typing import Any

BASE_URL = os.environ["BASE_URL"]
MODEL = os.environ["MODEL"]
QUESTION = "Use 3, 7, 2 to make 17."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]

NO_REASONING: dict[str, Any] = {"4": 100, "202": -100, "203": -100, "206": -100, "225": -100}
"""A `logit_bias` that ends the embedded model's reasoning at once, for clients that raise an error if there is no
answer. It needs a grammar that ends, such as ANSWER's, and keeps out the spaces that one would allow without end."""
ANSWER: dict[str, Any] = {"logit_bias": NO_REASONING, "structured_outputs": {"choice": ["7 * 2 + 3"]}}
"""Fields of a body for an answer of one line."""

BY_ALIAS, BY_HEADER, BY_BODY, IN_STREAM = "nowait", "thinking-ban", "dual-temperature", "switch-penalty"
"""A policy for each way of naming one, so that the server's metrics tell which ways reached it."""


def run(ask: Callable[..., tuple[Any, Any]], stream: Callable[[str], Any] | None) -> None:
    """Ask in each way that the client offers, and print what came of it.

    `ask` takes `model`, and of `headers` and `body` those that the client can send. It returns the answer and the
    `forkpoint` object, None where the client drops it. `stream` takes the model and returns the answer.
    """
    ask()
    _, found = ask(model=f"{MODEL}:{BY_ALIAS}")
    report: dict[str, Any] = {}
    report["object"] = isinstance(found, dict) and found.get("policy") == BY_ALIAS
    report["ways"] = ["alias"]
    for name, value in (("headers", {"X-Forkpoint-Policy": BY_HEADER}), ("body", {"policy": BY_BODY})):
        if name in ask.__code__.co_varnames[: ask.__code__.co_argcount]:
            ask(**{name: value})
            report["ways"].append(name)
    if stream is not None:
        report["stream"] = stream(f"{MODEL}:{IN_STREAM}")
    print(json.dumps(report))
