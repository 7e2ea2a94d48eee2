"""Inspect AI: a task of one sample."""

import os
from typing import Any

os.environ["FORKPOINT_API_KEY"] = "none"
os.environ["FORKPOINT_BASE_URL"] = os.environ["BASE_URL"]

import tempfile

import inspect_ai
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes

from .program import MODEL, QUESTION, run


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    config = GenerateConfig(max_tokens=300, extra_headers=headers, extra_body=body)
    task = Task(dataset=[Sample(input=QUESTION, target="7")], scorer=includes())
    with tempfile.TemporaryDirectory() as logs:
        (log,) = inspect_ai.eval(
            task, model=get_model(f"openai-api/forkpoint/{model}", config=config), log_dir=logs, display="none"
        )
        assert log.status == "success", log.error
        return log.samples[0].output.completion, None


run(ask, None)
