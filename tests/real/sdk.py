"""The official SDKs in front of Bifrost and the real model server: run by run.py inside a virtual environment.

Usage: sdk.py http://127.0.0.1:PORT
"""

import sys

import anthropic
import openai
from google import genai
from google.genai import types

BASE = sys.argv[1]
MODEL = "mlx-local/tiny"
QUESTION = "What is the weather in Paris?"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
# Without a limit a tiny model may go on for very long; at temperature 0 it says the same every time.
LIMITS = {"max_completion_tokens": 64, "temperature": 0}
# The SDK has no word for it any more.
FIXED = {"temperature": 0}
SAID = [{"role": "user", "content": "Hello"}]


def openai_sdk():
    client = openai.OpenAI(base_url=f"{BASE}/openai/v1", api_key="not-needed", max_retries=0)
    assert any(model.id == MODEL for model in client.models.list()), "models.list"
    assert client.models.retrieve(MODEL).id == MODEL, "models.retrieve"
    answer = client.chat.completions.create(model=MODEL, messages=SAID, **LIMITS)
    assert answer.choices[0].message.content and answer.usage.completion_tokens > 0, answer
    with client.chat.completions.stream(model=MODEL, messages=SAID, **LIMITS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.delta" in kinds and final.choices[0].finish_reason in ("stop", "length"), (kinds, final)
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
    asked = [{"role": "user", "content": QUESTION}]
    called = client.chat.completions.create(model=MODEL, messages=asked, tools=[tool], reasoning_effort="none", **LIMITS)
    (call,) = called.choices[0].message.tool_calls
    asked += [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    told = client.chat.completions.create(model=MODEL, messages=asked, tools=[tool], reasoning_effort="none", **LIMITS)
    assert told.choices[0].message.content, told
    for wrong, kind in (({"model": "mlx-local/none"}, openai.NotFoundError), ({"messages": []}, openai.BadRequestError)):
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": SAID, **wrong})
        except kind as error:
            assert error.request_id and error.body["message"], error
        else:
            raise AssertionError(f"{wrong} was taken")


def anthropic_sdk():
    client = anthropic.Anthropic(base_url=f"{BASE}/anthropic", api_key="not-needed", max_retries=0)
    assert any(model.id == MODEL for model in client.models.list()), "models.list"
    answer = client.messages.create(model=MODEL, max_tokens=64, messages=SAID, extra_body=FIXED)
    assert any(block.type == "text" for block in answer.content) and answer.usage.input_tokens > 0, answer
    with client.messages.stream(model=MODEL, max_tokens=64, messages=SAID, extra_body=FIXED) as stream:
        assert "".join(stream.text_stream).strip()
        assert stream.get_final_message().stop_reason in ("end_turn", "max_tokens")
    tools = [{"name": "get_weather", "input_schema": SCHEMA}]
    asked = [{"role": "user", "content": QUESTION}]
    fixed = {"model": MODEL, "max_tokens": 64, "extra_body": FIXED, "tools": tools, "thinking": {"type": "disabled"}}
    called = client.messages.create(messages=asked, **fixed)
    (call,) = [block for block in called.content if block.type == "tool_use"]
    assert call.input == {"city": "Paris"}, call
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    asked += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(messages=asked, **fixed).stop_reason == "end_turn"
    assert client.messages.count_tokens(model=MODEL, messages=SAID).input_tokens > 0
    try:
        client.messages.create(model="mlx-local/none", max_tokens=9, messages=SAID)
    except anthropic.NotFoundError as error:
        assert error.body["error"]["type"] == "not_found_error", error.body
    else:
        raise AssertionError("an unknown model was taken")


def google_sdk():
    client = genai.Client(api_key="not-needed", http_options=types.HttpOptions(base_url=f"{BASE}/genai"))
    assert any(MODEL in model.name for model in client.models.list()), "models.list"
    limit = {"max_output_tokens": 64, "temperature": 0}
    answer = client.models.generate_content(model=MODEL, contents="Hello", config=limit)
    assert answer.text.strip() and answer.usage_metadata.prompt_token_count > 0, answer
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="Hello", config=limit))
    assert "".join(piece.text or "" for piece in pieces).strip(), pieces

    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    asked = []
    config = types.GenerateContentConfig(
        tools=[get_weather], max_output_tokens=64, temperature=0, thinking_config=types.ThinkingConfig(thinking_budget=0))
    told = client.models.generate_content(model=MODEL, contents=QUESTION, config=config)
    assert asked == ["Paris"] and told.text, (asked, told)
    assert client.models.count_tokens(model=MODEL, contents="Hello").total_tokens > 0
    try:
        client.models.generate_content(model="mlx-local/none", contents="Hello")
    except genai.errors.ClientError as error:
        assert error.code == 404 and error.status == "NOT_FOUND", error
    else:
        raise AssertionError("an unknown model was taken")


for check in (openai_sdk, anthropic_sdk, google_sdk):
    check()
    print(f"ok {check.__name__.replace('_', ' ')}")
