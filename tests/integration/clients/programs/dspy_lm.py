"""DSPy: its language model, without a cache."""

from typing import Any

import dspy

from .program import BASE_URL, MODEL, QUESTION, run


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    more: dict[str, Any] = {"extra_headers": headers} if headers else {}
    lm = dspy.LM(
        f"openai/{model}", api_base=BASE_URL, api_key="none", max_tokens=40, cache=False, num_retries=0,
        **more, **({"extra_body": body} if body else {}),
    )  # fmt: skip
    answers = lm(QUESTION)
    return answers, getattr(lm.history[-1]["response"], "forkpoint", None)


run(ask, None)
