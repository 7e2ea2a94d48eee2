"""The calls that stock vLLM and Forkpoint must answer alike on a real model: nothing depends on its vocabulary."""

from __future__ import annotations

from typing import Any

from forkpoint_policies.tasks.countdown import held_out_puzzles

from .calls import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Call

MODEL = "model"
"""The name under which both servers serve it."""
GREEDY: dict[str, Any] = {"temperature": 0}
SEEDED: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "seed": 7}
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
USER = "Write a Python function that adds two numbers."
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The current weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city"],
    },
}
CLOCK: dict[str, Any] = {"name": "get_time", "description": "The time.", "parameters": {"type": "object"}}
TOOLS: list[Any] = [{"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}]
OPEN_TOOLS: list[Any] = [{"type": "function", **WEATHER}]
CLAUDE_TOOLS: list[Any] = [
    {"name": "get_weather", "description": "The weather of a city.", "input_schema": WEATHER["parameters"]}
]
ASKS_FOR_A_TOOL: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
CALLED: list[Any] = [
    *ASKS_FOR_A_TOOL,
    {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}]},
    {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 21, "sky": "clear"}'},
]  # fmt: skip
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "languages": {"type": "array", "items": {"enum": ["en", "fr", "de"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "languages"],
    "additionalProperties": False,
}
ASKS_FOR_JSON: list[Any] = [{"role": "user", "content": "Describe Ada, a French woman of 36, as JSON."}]
LONG = "\n".join(f"{number}. {puzzle.prompt}" for number, puzzle in enumerate(held_out_puzzles("hard", 90)))
"""Some 2,000 tokens."""
TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if tone is defined %}[tone] {{ tone }}\n{% endif %}[assistant]"
)
JSON_SCHEMA: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
}


def chat(name: str, messages: Any = USER, **options: Any) -> Call:
    """A chat; a text stands for its user's one message."""
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    return Call(f"chat, {name}", CHAT, {"model": MODEL, "messages": said, "max_tokens": 16, **GREEDY, **options})


def completion(name: str, **options: Any) -> Call:
    return Call(
        f"completions, {name}",
        COMPLETIONS,
        {"model": MODEL, "prompt": "def add(a, b):", "max_tokens": 16, **GREEDY, **options},
    )


def response(name: str, **options: Any) -> Call:
    return Call(
        f"responses, {name}", RESPONSES, {"model": MODEL, "input": USER, "max_output_tokens": 16, **GREEDY, **options}
    )


def message(name: str, **options: Any) -> Call:
    said = [{"role": "user", "content": USER}]
    return Call(
        f"messages, {name}", MESSAGES, {"model": MODEL, "messages": said, "max_tokens": 16, **GREEDY, **options}
    )


def system(text: Any, *rest: Any) -> list[Any]:
    """A system's text before a user's message, or before others."""
    return [{"role": "system", "content": text}, *(rest or ({"role": "user", "content": USER},))]


CALLS: tuple[Call, ...] = (
    chat("greedy"),
    chat("in a stream", **STREAM),
    chat("seeded", **SEEDED),
    chat("seeded, three choices, in a stream", **SEEDED, **STREAM, n=3),
    chat("log probabilities", logprobs=True, top_logprobs=5),
    chat("log probabilities, in a stream", logprobs=True, top_logprobs=2, **STREAM),
    chat("penalties", **SEEDED, presence_penalty=0.7, frequency_penalty=0.4, repetition_penalty=1.1),
    chat("stop", stop=["def", "Python"], max_tokens=48),
    # templates
    chat("a system's text", system("You answer in one word.")),
    chat("a system's text, in a stream", system("You answer in one word."), **STREAM),
    chat("an empty system's text", system("")),
    chat("a system's text in parts", system([{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Now."}])),
    chat("a developer's text", [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": USER}]),
    chat("a system's text after the user's", [{"role": "user", "content": USER}, *system("Be brief.")]),
    chat("a dialogue", system("Be brief.", {"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"},
                              {"role": "user", "content": "And times 4?"})),
    chat("a template of the request", system("Be brief."), chat_template=TEMPLATE,
         chat_template_kwargs={"tone": "dry"}),
    chat("going on with a message", [{"role": "user", "content": USER}, {"role": "assistant", "content": "```python"}],
         add_generation_prompt=False, continue_final_message=True),
    chat("other scripts", "Übersetze ins Japanische: „Guten Morgen“ 🌅"),
    chat("a name", [{"role": "user", "name": "ada", "content": "Who am I?"}]),
    # tools
    chat("tools, auto", ASKS_FOR_A_TOOL, tools=TOOLS, max_tokens=48),
    chat("tools, auto, in a stream", ASKS_FOR_A_TOOL, tools=TOOLS, max_tokens=48, **STREAM),
    chat("tools, required", ASKS_FOR_A_TOOL, tools=TOOLS, tool_choice="required", max_tokens=64),
    chat("tools, required, in a stream", ASKS_FOR_A_TOOL, tools=TOOLS, tool_choice="required", max_tokens=64, **STREAM),
    chat("tools, named", ASKS_FOR_A_TOOL, tools=TOOLS, max_tokens=48,
         tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    chat("tools, named, seeded, in a stream", ASKS_FOR_A_TOOL, tools=TOOLS, max_tokens=48,
         tool_choice={"type": "function", "function": {"name": "get_weather"}}, **SEEDED, **STREAM),
    chat("tools, none", ASKS_FOR_A_TOOL, tools=TOOLS, tool_choice="none"),
    chat("a result of a tool", CALLED, tools=TOOLS),
    chat("a result of a tool, in a stream", CALLED, tools=TOOLS, **STREAM),
    # structured outputs
    chat("json_schema", ASKS_FOR_JSON, **JSON_SCHEMA, max_tokens=64),
    chat("json_schema, in a stream", ASKS_FOR_JSON, **JSON_SCHEMA, max_tokens=64, **STREAM),
    chat("json_schema, seeded, two choices", ASKS_FOR_JSON, **JSON_SCHEMA, max_tokens=64, **SEEDED, n=2),
    chat("json_object", ASKS_FOR_JSON, response_format={"type": "json_object"}, max_tokens=48),
    chat("regex", "A date?", structured_outputs={"regex": r"20[0-9]{2}-(0[1-9]|1[0-2])"}),
    chat("choice", "Is 91 prime?", structured_outputs={"choice": ["yes", "no"]}),
    chat("grammar", "2 + 3?", structured_outputs={"grammar": 'root ::= "five" | "six" | "5"'}),
    # long prompts
    chat("a long prompt", LONG, max_tokens=12),
    chat("a long prompt, in a stream", f"{LONG}\nSolve the last.", max_tokens=12, **STREAM),
    chat("a long system's text", system(LONG), max_tokens=12),
    chat("a prompt that is too long", LONG * 10),
    # other routes
    completion("greedy"),
    completion("seeded, in a stream", **SEEDED, **STREAM),
    completion("log probabilities, echo", logprobs=2, echo=True),
    completion("several prompts", prompt=["def add(a, b):", "class Stack:"], n=2, **SEEDED),
    completion("a long prompt", prompt=LONG, max_tokens=12),
    response("greedy"),
    response("in a stream", stream=True),
    response("instructions", instructions="You answer in one word."),
    response("a schema", input="Describe Ada, a French woman of 36, as JSON.", max_output_tokens=64,
             text={"format": {"type": "json_schema", "name": "person", "schema": PERSON}}),
    response("tools, required", input=ASKS_FOR_A_TOOL, tools=OPEN_TOOLS, tool_choice="required", max_output_tokens=64),
    response("tools, auto, in a stream", input=ASKS_FOR_A_TOOL, tools=OPEN_TOOLS, stream=True, max_output_tokens=64),
    message("greedy"),
    message("a system's text", system="You answer in one word."),
    message("a system's text, in a stream", system=[{"type": "text", "text": "Be brief."}], stream=True),
    message("tools", messages=ASKS_FOR_A_TOOL, tools=CLAUDE_TOOLS, tool_choice={"type": "any"}, max_tokens=64),
    message("tools, in a stream", messages=ASKS_FOR_A_TOOL, tools=CLAUDE_TOOLS, stream=True, max_tokens=48),
    Call("messages, counted", "/v1/messages/count_tokens",
         {"model": MODEL, "system": "Be brief.", "messages": ASKS_FOR_A_TOOL, "tools": CLAUDE_TOOLS}),
    Call("tokenize messages", "/tokenize", {"model": MODEL, "messages": CALLED, "tools": TOOLS}),
    Call("render chat", f"{CHAT}/render", {"model": MODEL, "messages": system("Be brief."), "tools": TOOLS}),
)  # fmt: skip
REFUSED = ("chat, a prompt that is too long",)
"""The calls that both servers refuse."""
MAY_BE_REFUSED = (
    "chat, a developer's text",
    "chat, a system's text after the user's",
    "chat, a system's text in parts",
)
"""The calls that a model's chat template may refuse."""
CALLS_A_TOOL = ("chat, tools, required", "chat, tools, named", "responses, tools, required", "messages, tools")
"""The calls whose whole answer is a tool call, whatever the model."""
