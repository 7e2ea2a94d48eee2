"""The chat template with which instruct models think aloud."""

from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE = Path(__file__).parents[2] / "docs" / "think" / "think-aloud.jinja"
USER = {"role": "user", "content": "2 + 2?"}


def rendered(*messages: dict[str, str]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)  # as transformers renders it
    return environment.from_string(TEMPLATE.read_text()).render(messages=messages, add_generation_prompt=True)


def test_the_answer_starts_inside_the_reasoning() -> None:
    text = rendered(USER)
    assert text.startswith("<|im_start|>system\nThink before you answer.")
    assert text.endswith("<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n")


def test_a_system_message_stays_first_and_appears_once() -> None:
    text = rendered({"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "4"}, USER)
    assert text.startswith("<|im_start|>system\nBe brief.\n\nThink before you answer.")
    assert text.count("Be brief.") == text.count("<|im_start|>system") == 1
    assert text.count("<|im_start|>assistant") == 2
