"""Instructor: an answer as a Pydantic model."""

from typing import Any

import instructor
import openai
from pydantic import BaseModel

from .program import BASE_URL, MESSAGES, MODEL, NO_REASONING, run


class Solved(BaseModel):
    """What the answer is parsed into."""

    solved: bool


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    client = instructor.from_openai(
        openai.OpenAI(base_url=BASE_URL, api_key="none", default_headers=headers), mode=instructor.Mode.JSON_SCHEMA
    )
    found, answer = client.chat.completions.create_with_completion(
        model=model, messages=MESSAGES, response_model=Solved, max_tokens=300, max_retries=0, temperature=0,
        logit_bias=NO_REASONING, extra_body=body or {},
    )  # fmt: skip
    assert isinstance(found, Solved)
    return found, (answer.model_extra or {}).get("forkpoint")


run(ask, None)
