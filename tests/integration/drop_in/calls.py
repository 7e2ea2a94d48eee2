"""The calls that stock vLLM and Forkpoint must answer alike: data, one entry a call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.tasks.countdown import held_out_puzzles

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
GENERATING = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
PUZZLE = held_out_puzzles("hard", 3)[2].prompt
QUERY: list[Any] = [{"role": "user", "content": PUZZLE}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "solve",
            "description": "Solves a puzzle.",
            "parameters": {
                "type": "object",
                "properties": {"goal": {"type": "integer", "minimum": 10, "maximum": 99}},
                "required": ["goal"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    },
    {
        "type": "function",
        "function": {"name": "give_up", "strict": True, "parameters": {"type": "object", "properties": {}}},
    },
]
LOOSE_TOOLS: list[Any] = [
    {**tool, "function": {name: value for name, value in tool["function"].items() if name != "strict"}}
    for tool in TOOLS
]
"""With strict tools vLLM lets one be called, regardless of other constraints on the text."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"left": {"type": "integer", "minimum": 0, "maximum": 99}, "right": {"enum": [1, 2]}},
    "required": ["left", "right"],
    "additionalProperties": False,
}
GREEDY, SEEDED = {"temperature": 0}, {"temperature": 1.0, "seed": 7}
ANSWER: dict[str, float] = {"4": 100, "202": -100, "203": -100, "206": -100, "225": -100}
"""A bias that ends the reasoning at once, so that the grammar's text is written, and keeps out the spaces and new lines
that a grammar may allow, which would never end. By the ids of `</think>` and of four kinds of space."""
AT_ONCE: dict[str, Any] = {"logit_bias": ANSWER, "max_tokens": 300}
CALLED = r'<tool_call>\n\{"name": "solve", "arguments": \{"goal": [0-9]{2}\}\}\n</tool_call>'
"""What a model writes that calls a tool of its own accord; the embedded one was never taught to."""
CALLED_TWICE = f"{CALLED}\\n{CALLED}"


@dataclass(frozen=True)
class Call:
    """One HTTP request. A `body` of bytes is sent as it is."""

    name: str
    path: str
    body: dict[str, Any] | bytes | None = None
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def takes_policy(self) -> bool:
        """Whether it may name a policy: beam search and background responses may not, and get an error."""
        alone = isinstance(self.body, dict) and (self.body.get("use_beam_search") or self.body.get("background"))
        return self.path in GENERATING and isinstance(self.body, dict) and not alone


def chat(name: str, **options: Any) -> Call:
    return Call(f"chat, {name}", CHAT, {"model": "countdown", "messages": QUERY, "max_tokens": 80, **GREEDY, **options})


def completion(name: str, **options: Any) -> Call:
    return Call(
        f"completions, {name}",
        COMPLETIONS,
        {"model": "countdown", "prompt": PUZZLE, "max_tokens": 40, **GREEDY, **options},
    )


def response(name: str, **options: Any) -> Call:
    return Call(
        f"responses, {name}",
        RESPONSES,
        {"model": "countdown", "input": PUZZLE, "max_output_tokens": 80, **GREEDY, **options},
    )


def message(name: str, **options: Any) -> Call:
    return Call(
        f"messages, {name}", MESSAGES, {"model": "countdown", "messages": QUERY, "max_tokens": 80, **GREEDY, **options}
    )


def schema_of(text: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "pair", "schema": text}}


STREAM = {"stream": True, "stream_options": {"include_usage": True}}
EACH = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
ONE_TOOL = {"type": "function", "function": {"name": "solve"}}
OPEN_TOOLS = [{"type": "function", **TOOLS[0]["function"]}]
OPEN_SCHEMA = {"format": {"type": "json_schema", "name": "pair", "schema": SCHEMA}}
YES = {"choice": ["yes"]}
OPEN_AT_ONCE: dict[str, Any] = {"logit_bias": ANSWER, "max_output_tokens": 300}
CLAUDE_TOOLS = [
    {"name": "solve", "description": "Solves.", "input_schema": TOOLS[0]["function"]["parameters"], "strict": True}
]
EASY: list[Any]
EASIER: list[Any]
EASY, EASIER = ([{"role": "user", "content": puzzle.prompt}] for puzzle in held_out_puzzles("easy", 2))
"""Chats whose reasoning soon ends without being cut off."""

SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seeded": SEEDED,
    "whole": {**SEEDED, "max_tokens": 1200},
    "three choices": {**SEEDED, "n": 3},
    "top_p, top_k, min_p": {**SEEDED, "top_p": 0.8, "top_k": 5, "min_p": 0.05},
    "penalties": {**SEEDED, "presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.1},
    "logit_bias": {"logit_bias": {"10": 5.0, "20": -100}},
    "min_tokens": {"min_tokens": 60, "max_tokens": 70},
    "stop": {"stop": ["="]},
    "stop, told": {"stop": ["=", "+"], "include_stop_str_in_output": True},
    "stop_token_ids": {"stop_token_ids": [262, 11, 12]},
    "ignore_eos": {**SEEDED, "ignore_eos": True, "max_tokens": 300},
    "one token": {"max_tokens": 1},
    "token ids": {"return_token_ids": True},
    "bad_words": {**SEEDED, "bad_words": ["Wait", "So"]},
    "truncated prompt": {"truncate_prompt_tokens": 4},
    "skip_special_tokens": {"skip_special_tokens": False, "spaces_between_special_tokens": False},
    "a grammar after the reasoning": {"structured_outputs": {"regex": r"[0-9]{2} [-+*] [0-9]"}},
    "regex": {"structured_outputs": {"regex": r"[0-9]{2} [-+*] [0-9]"}, **AT_ONCE},
    "choice": {"structured_outputs": {"choice": ["yes", "no", "perhaps"]}, **AT_ONCE},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "1" | "2" root'}, **AT_ONCE, **SEEDED},
    "json": {"structured_outputs": {"json": SCHEMA}, **AT_ONCE, **SEEDED},
    "structural_tag": {
        "structured_outputs": {
            "structural_tag": json.dumps(
                {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": SCHEMA}}
            )
        },
        **AT_ONCE,
    },
    "prompt_logprobs": {"prompt_logprobs": 2, "max_tokens": 8},
    "allowed_token_ids": {"allowed_token_ids": list(range(19, 40))},
    "tokens as ids": {"return_tokens_as_token_ids": True, "logprobs": 1, "max_tokens": 8},
    "repetition_detection": {"repetition_detection": {"max_pattern_size": 8, "min_count": 2}, "max_tokens": 300},
    "beam search": {"use_beam_search": True, "n": 2, "max_tokens": 12},
    "a cache of its own": {"cache_salt": "x"},
    "an argument of a processor": {"vllm_xargs": {"something": 1}},
}
"""What chat and completions take alike."""

CALLS: tuple[Call, ...] = (
    *(chat(name, **options) for name, options in SAMPLING.items()),
    *(chat(f"{name}, in a stream", **{**options, **STREAM}) for name, options in SAMPLING.items()),
    *(completion(name, **options) for name, options in SAMPLING.items()),
    *(completion(f"{name}, in a stream", **{**options, **STREAM}) for name, options in SAMPLING.items()),
    chat("logprobs", logprobs=True, top_logprobs=5),
    chat("logprobs, in a stream", logprobs=True, top_logprobs=3, **STREAM),
    chat("usage in every chunk", **EACH),
    chat("a system's message", messages=[{"role": "system", "content": "Be brief."}, *QUERY]),
    chat("a dialogue", messages=[*QUERY, {"role": "assistant", "content": "17"}, {"role": "user", "content": "Why?"}]),
    chat("going on with a message", messages=[*QUERY, {"role": "assistant", "content": "The"}],
         add_generation_prompt=False, continue_final_message=True),
    chat("echo", echo=True, max_tokens=10),
    chat("parts", messages=[{"role": "user", "content": [{"type": "text", "text": PUZZLE}]}]),
    chat("no reasoning told", include_reasoning=False),
    chat("a template's argument", **NO_THINKING),
    chat("max_completion_tokens", max_completion_tokens=12),
    chat("no logprobs but of the drawn", logprobs=True, top_logprobs=0),
    chat("json_schema", response_format=schema_of(SCHEMA), **AT_ONCE),
    chat("json_schema, in a stream", response_format=schema_of(SCHEMA), **AT_ONCE, **STREAM),
    chat("json_schema, seeded", response_format=schema_of(SCHEMA), **{**AT_ONCE, **SEEDED, "n": 2}),
    chat("json_object", response_format={"type": "json_object"}, **AT_ONCE),
    chat("tools, auto, none called", tools=TOOLS, tool_choice="auto"),
    chat("tools, auto", tools=TOOLS, tool_choice="auto", structured_outputs={"regex": CALLED}, **AT_ONCE),
    chat("tools, auto, in a stream", tools=TOOLS, tool_choice="auto", structured_outputs={"regex": CALLED},
         **AT_ONCE, **STREAM),
    chat("tools, parallel", tools=LOOSE_TOOLS, tool_choice="auto", structured_outputs={"regex": CALLED_TWICE},
         **AT_ONCE),
    chat("tools, parallel, in a stream", tools=LOOSE_TOOLS, structured_outputs={"regex": CALLED_TWICE},
         **AT_ONCE, **STREAM),
    chat("tools, one of two", tools=LOOSE_TOOLS, structured_outputs={"regex": CALLED_TWICE}, parallel_tool_calls=False,
         **AT_ONCE),
    chat("tools, required", tools=TOOLS, tool_choice="required", **AT_ONCE),
    chat("tools, required, in a stream", tools=TOOLS, tool_choice="required", **AT_ONCE, **STREAM),
    chat("tools, required, seeded", tools=TOOLS, tool_choice="required", **{**AT_ONCE, **SEEDED}),
    chat("tools, required, while it still reasons", tools=TOOLS, tool_choice="required"),
    chat("tools, named", tools=TOOLS, tool_choice=ONE_TOOL, **AT_ONCE),
    chat("tools, named, in a stream", tools=TOOLS, tool_choice=ONE_TOOL, **AT_ONCE, **STREAM),
    chat("tools, not parallel", tools=TOOLS, tool_choice="required", parallel_tool_calls=False, **AT_ONCE),
    chat("tools, none", tools=TOOLS, tool_choice="none"),
    chat("a result of a tool", messages=[
        *QUERY,
        {"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "solve", "arguments": '{"goal": 17}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3 * 7"},
    ], tools=TOOLS),
    completion("logprobs", logprobs=3),
    completion("logprobs, in a stream", logprobs=2, **STREAM),
    completion("echo", echo=True, logprobs=1),
    completion("several prompts", prompt=[PUZZLE, "Use 1, 2 to make 3."], n=2, **SEEDED),
    completion("several prompts, in a stream", prompt=[PUZZLE, "Use 1, 2 to make 3."], **STREAM),
    completion("tokens", prompt=[5, 6, 7, 8]),
    completion("several of tokens", prompt=[[5, 6, 7, 8], [9, 10]]),
    completion("suffix", suffix="end"),
    response("greedy"),
    response("seeded", temperature=1.0, seed=7),
    response("messages", input=QUERY),
    response("instructions", instructions="Be brief."),
    response("in a stream", stream=True),
    response("kept", store=True),
    response("a schema", text=OPEN_SCHEMA),
    response("a response that is not there", previous_response_id="resp_0"),
    response("tools", tools=OPEN_TOOLS, tool_choice="required", **OPEN_AT_ONCE),
    response("tools, in a stream", tools=OPEN_TOOLS, tool_choice="required", stream=True, **OPEN_AT_ONCE),
    response("tools, auto", tools=OPEN_TOOLS, structured_outputs={"regex": CALLED}, **OPEN_AT_ONCE),
    response("a schema, written out", text=OPEN_SCHEMA, **OPEN_AT_ONCE),
    response("a schema, in a stream", text=OPEN_SCHEMA, stream=True, **OPEN_AT_ONCE),
    response("logprobs", include=["message.output_text.logprobs"], top_logprobs=2, structured_outputs=YES,
             **OPEN_AT_ONCE),
    response("in the background", background=True),
    Call("responses, one that is not there", f"{RESPONSES}/resp_0", method="GET"),
    Call("responses, one that is not there is stopped", f"{RESPONSES}/resp_0/cancel"),
    message("greedy"),
    message("in a stream", stream=True),
    message("system", system="Be brief."),
    message("stop_sequences", stop_sequences=["="]),
    message("top_k and top_p", temperature=1.0, top_k=1, top_p=0.9),
    message("tools", messages=EASY, tools=CLAUDE_TOOLS, tool_choice={"type": "any"}, max_tokens=400),
    message("tools, in a stream", messages=EASY, tools=CLAUDE_TOOLS, tool_choice={"type": "any"}, max_tokens=400,
            stream=True),
    message("a tool, named", messages=EASY, tools=CLAUDE_TOOLS, tool_choice={"type": "tool", "name": "solve"},
            max_tokens=400),
    message("a result of a tool", tools=CLAUDE_TOOLS, messages=[
        *QUERY,
        {"role": "assistant",
         "content": [{"type": "tool_use", "id": "toolu_1", "name": "solve", "input": {"goal": 17}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "3 * 7"}]},
    ]),
    message("no messages", messages=[]),
    message("another model", model="claude"),
    Call("messages, counted", "/v1/messages/count_tokens", {"model": "countdown", "messages": QUERY}),
    Call("tokenize a prompt", "/tokenize", {"model": "countdown", "prompt": PUZZLE, "return_token_strs": True}),
    Call("tokenize messages", "/tokenize", {"model": "countdown", "messages": QUERY}),
    Call("detokenize", "/detokenize", {"model": "countdown", "tokens": [5, 6, 7]}),
    Call("render chat", "/v1/chat/completions/render", {"model": "countdown", "messages": QUERY}),
    Call("render a completion", "/v1/completions/render", {"model": "countdown", "prompt": PUZZLE}),
    Call("tokenize what is nothing", "/tokenize", {"model": "countdown"}),
    Call("detokenize what is no token", "/detokenize", {"model": "countdown", "tokens": [10**9]}),
    Call("about the tokenizer", "/tokenizer_info", method="GET"),
    Call("render responses", "/v1/responses/render", {"model": "countdown", "input": PUZZLE}),
    Call("several chats", f"{CHAT}/batch",
         {"model": "countdown", "messages": [QUERY, QUERY], "max_tokens": 20, **GREEDY}),
    Call("tokens in, tokens out", "/inference/v1/generate",
         {"model": "countdown", "token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 8, "temperature": 0}}),
    Call("as SageMaker asks", "/invocations", {"model": "countdown", "messages": QUERY, "max_tokens": 20, **GREEDY}),
    Call("a name for the answer", CHAT, {"model": "countdown", "messages": QUERY, "max_tokens": 5, **GREEDY},
         headers=(("x-request-id", "it"),)),
    Call("what a page of another site asks first", CHAT, method="OPTIONS",
         headers=(("origin", "http://example.org"), ("access-control-request-method", "POST"))),
    Call("what a page of another site asks", CHAT, {"model": "countdown", "messages": QUERY, "max_tokens": 5, **GREEDY},
         headers=(("origin", "http://example.org"),)),
    Call("models", "/v1/models", method="GET"),
    Call("health", "/health", method="GET"),
    Call("ping", "/ping", method="GET"),
    Call("ping, posted", "/ping"),
    Call("only the head", "/health", method="HEAD"),
    Call("version", "/version", method="GET"),
    Call("load", "/load", method="GET"),
    Call("embeddings", "/v1/embeddings", {"model": "countdown", "input": "x"}),
    Call("score", "/score", {"model": "countdown", "text_1": "x", "text_2": "y"}),
    Call("pooling", "/pooling", {"model": "countdown", "input": "x"}),
    Call("no route", "/v1/nothing", {}),
    Call("another method", CHAT, method="GET"),
    Call("no JSON", CHAT, b"{", headers=(("content-type", "application/json"),)),
    Call("no object", CHAT, b"[1]", headers=(("content-type", "application/json"),)),
    Call("no body", CHAT, b"", headers=(("content-type", "application/json"),)),
    Call("text", CHAT, json.dumps({"model": "countdown", "messages": QUERY}).encode(),
         headers=(("content-type", "text/plain"),)),
    chat("another model", model="gpt-5"),
    chat("no model", model=None, max_tokens=5),
    chat("no messages", messages=[]),
    chat("messages that are none", messages="hello"),
    chat("a role that is none", messages=[{"role": "pope", "content": "x"}]),
    chat("too hot", temperature=-1),
    chat("top_p above 1", top_p=1.5),
    chat("no choices", n=0),
    chat("greedy choices", n=3),
    chat("too many logprobs", logprobs=True, top_logprobs=1000),
    chat("logprobs without logprobs", top_logprobs=3),
    chat("no tokens", max_tokens=0),
    chat("more tokens than there are", max_tokens=10**6),
    chat("a prompt that is too long", messages=[{"role": "user", "content": PUZZLE * 400}]),
    chat("a seed that is none", seed="x"),
    chat("a schema that is none", response_format=schema_of({"type": "nothing"})),
    chat("a regex that is none", structured_outputs={"regex": "("}),
    chat("a bias of no token", logit_bias={"999999": 1}),
    chat("a stop that is empty", stop=[""]),
    chat("a tool that is not there", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "other"}}),
    chat("options of a stream without one", stream_options={"include_usage": True}),
    chat("fields that are none", nothing=1),
    chat("two grammars", structured_outputs={"regex": "a", "choice": ["a"]}),
    chat("penalties beyond bounds", presence_penalty=9),
    chat("min_tokens above max_tokens", min_tokens=90),
    chat("tools without tools", tool_choice="required"),
    chat("a tool without a name", tools=[{"type": "function", "function": {}}]),
    chat("too many choices", n=10**6, **SEEDED),
    chat("an image", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]),
    completion("no prompt", prompt=None),
    completion("an empty prompt", prompt=""),
    completion("tokens that are none", prompt=[10**6]),
    completion("too many logprobs", logprobs=1000),
    response("nothing asked", input=None),
    message("no tokens", max_tokens=None),
)  # fmt: skip
