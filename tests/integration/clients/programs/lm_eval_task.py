"""lm-evaluation-harness: a task of two questions, by chat and by completions."""

import json
import tempfile
from pathlib import Path
from typing import Any

import lm_eval

from .program import BASE_URL, MODEL, QUESTION, run


def ask(model: str = MODEL, body: dict[str, Any] | None = None) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "questions.jsonl")
        data.write_text("".join(json.dumps({"question": QUESTION, "answer": "7"}) + "\n" for _ in range(2)))
        task: dict[str, Any] = {
            "task": "countdown", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}", "metric_list": [{"metric": "exact_match"}],
            "generation_kwargs": {"until": ["\n\n\n"], "max_gen_toks": 40, **(body or {})},
        }  # fmt: skip
        for kind, path in (("local-chat-completions", "chat/completions"), ("local-completions", "completions")):
            found = lm_eval.simple_evaluate(
                model=kind,
                model_args={
                    "model": model, "base_url": f"{BASE_URL}/{path}", "num_concurrent": 1, "max_retries": 1,
                    "tokenizer_backend": None, "tokenized_requests": False,
                },
                tasks=[task],
                apply_chat_template=kind == "local-chat-completions",
                bootstrap_iters=0,
            )  # fmt: skip
            assert len(found["samples"]["countdown"]) == 2
    return found["samples"]["countdown"][0]["resps"], None


run(ask, None)
