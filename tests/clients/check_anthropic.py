"""The official `anthropic` package for Python against every vendor."""

import base64

import anthropic
from harness import PNG, VENDORS, contains, equal, seen
from mock_base import TEXT

TOOL = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "cache_control": {"type": "ephemeral"},
}
ASK = [{"role": "user", "content": "Weather in Paris?"}]
THINK = {"type": "enabled", "budget_tokens": 2000}


def client(gateway, **options):
    return anthropic.Anthropic(base_url=gateway.url, api_key="dummy", max_retries=0, **options)


def model(vendor, kind):
    return f"{vendor}/{VENDORS[vendor]}-{kind}"


def check_usage(usage, vendor):
    if vendor == "anthropic":
        equal((usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (30, 64, 6))
    else:
        equal((usage.input_tokens, usage.cache_read_input_tokens), (36, 64))
    equal(usage.output_tokens, 20)


def text(gateway, vendor):
    raw = client(gateway).messages.with_raw_response.create(
        model=model(vendor, "text"), max_tokens=99, extra_body={"temperature": 0.5}, stop_sequences=["STOP"],
        metadata={"user_id": "ada"},
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Speak English."}],
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
                  {"role": "user", "content": [{"type": "text", "text": "And?", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}])
    answer = raw.parse()
    equal(answer.content[0].text, TEXT)
    equal((answer.stop_reason, answer.stop_sequence, answer.type, answer.role), ("end_turn", None, "message", "assistant"))
    check_usage(answer.usage, vendor)
    equal(raw.headers["x-bifrost-provider"], vendor)
    if vendor == "anthropic":
        equal(raw.headers["anthropic-ratelimit-requests-remaining"], "41")
        equal(raw.headers["x-bifrost-upstream-request-id"], "req_mock")
    else:
        contains(raw.headers["x-bifrost-loss"], "cache")


def stream(gateway, vendor):
    with client(gateway).messages.stream(model=model(vendor, "text"), max_tokens=99, messages=ASK) as events:
        kinds = [event.type for event in events]
        final = events.get_final_message()
    equal(final.content[0].text, TEXT)
    equal(final.stop_reason, "end_turn")
    check_usage(final.usage, vendor)
    equal(kinds[0], "message_start")
    equal(kinds[-1], "message_stop")


def tools(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", False)


def tools_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", True)


def thinking_tools(gateway, vendor):
    tool_loop(gateway, vendor, "thinktool", False, thinking=THINK)


def thinking_tools_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "thinkparallel", True, thinking=THINK)


def tool_loop(gateway, vendor, kind, streamed, **options):
    api = client(gateway)
    messages = list(ASK)
    arguments = dict(model=model(vendor, kind), max_tokens=4000, tools=[TOOL], **options)
    if streamed:
        with api.messages.stream(messages=messages, **arguments) as events:
            answer = events.get_final_message()
    else:
        answer = api.messages.create(messages=messages, **arguments)
    equal(answer.stop_reason, "tool_use")
    calls = [block for block in answer.content if block.type == "tool_use"]
    equal([call.input["city"] for call in calls], ["Paris", "Rome"] if "parallel" in kind else ["Paris"])
    if "think" in kind and vendor != "openai":
        equal(answer.content[0].type, "thinking")
        equal(answer.content[0].thinking, "I think, therefore.")
    messages.append({"role": "assistant", "content": answer.content})
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [{"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "21"}, picture], "cache_control": {"type": "ephemeral"}}]
    results += [{"type": "tool_result", "tool_use_id": call.id, "content": "no such city", "is_error": True} for call in calls[1:]]
    messages.append({"role": "user", "content": [*results, {"type": "text", "text": "Go on."}]})
    final = api.messages.create(messages=messages, **arguments)
    equal(final.content[-1].text, "It is 21 degrees.")
    contains(seen()[-1]["raw"].decode(), PNG)


def forced_tool(gateway, vendor):
    for choice in ({"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}, {"type": "any"}, {"type": "auto"}, {"type": "none"}):
        client(gateway).messages.create(model=model(vendor, "tool"), max_tokens=99, messages=ASK, tools=[TOOL], tool_choice=choice)


def thinking(gateway, vendor):
    answer = client(gateway).messages.create(model=model(vendor, "think"), max_tokens=4000, messages=ASK, thinking=THINK)
    if vendor != "openai":
        equal([block.type for block in answer.content], ["thinking", "text"])
    messages = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "More."}]
    client(gateway).messages.create(model=model(vendor, "think"), max_tokens=4000, messages=messages, thinking=THINK)
    for options in ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}):
        client(gateway).messages.create(model=model(vendor, "think"), max_tokens=4000, messages=messages, **options)


def thinking_goes_to_another_vendor(gateway, vendor):
    """The conversation of one vendor goes on with the next: its signatures must not."""
    other = {"openai": "gemini", "anthropic": "gemini", "gemini": "anthropic"}[vendor]
    first = client(gateway).messages.create(model=model(vendor, "thinktool"), max_tokens=4000, messages=ASK, tools=[TOOL], thinking=THINK)
    call = next(block for block in first.content if block.type == "tool_use")
    messages = [*ASK, {"role": "assistant", "content": first.content},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21"}]}]
    final = client(gateway).messages.create(model=model(other, "thinktool"), max_tokens=4000, messages=messages, tools=[TOOL], thinking=THINK)
    equal(final.content[-1].text, "It is 21 degrees.")


def structured(gateway, vendor):
    from pydantic import BaseModel

    class Weather(BaseModel):
        city: str
        temperature: int

    answer = client(gateway).messages.parse(model=model(vendor, "json"), max_tokens=99, messages=ASK, output_format=Weather)
    equal(answer.parsed_output, Weather(city="Paris", temperature=21))
    contains(seen()[-1]["raw"].decode(), "temperature")


def documents(gateway, vendor):
    content = [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}, "title": "a.pdf"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Plain words."}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "text", "text": "What is this?"},
    ]
    client(gateway).messages.create(model=model(vendor, "text"), max_tokens=99, messages=[{"role": "user", "content": content}])
    sent = seen()[-1]["raw"].decode()
    assert "Plain words." in sent or base64.b64encode(b"Plain words.").decode() in sent, sent


def stop_reasons(gateway, vendor):
    wanted = {"length": "max_tokens", "stopseq": "stop_sequence" if vendor == "anthropic" else "end_turn", "filter": "refusal"}
    for kind, reason in wanted.items():
        answer = client(gateway).messages.create(model=model(vendor, kind), max_tokens=99, messages=ASK)
        equal(answer.stop_reason, reason, kind)


ERRORS = {
    400: anthropic.BadRequestError, 401: anthropic.AuthenticationError, 403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError, 429: anthropic.RateLimitError, 500: anthropic.InternalServerError, 503: anthropic.InternalServerError,
}


def errors(gateway, vendor):
    for status, kind in ERRORS.items():
        for streamed in (False, True):
            try:
                client(gateway).messages.create(model=model(vendor, f"error-{status}"), max_tokens=9, messages=ASK, stream=streamed)
            except kind as error:
                equal(error.body["type"], "error")
                contains(error.body["error"]["message"], "mock says" if (vendor, status) != ("gemini", 401) else "API key")
                contains(error.response.headers["x-bifrost-attempts"], vendor)
                if status == 429:
                    equal(error.response.headers["retry-after"], "3")
                if (vendor, status) == ("anthropic", 429):
                    equal(error.response.headers["anthropic-ratelimit-requests-remaining"], "0")
                    equal(error.response.headers["x-bifrost-upstream-request-id"], "req_mock")
            except anthropic.APIError as error:
                raise AssertionError(f"{status}: {type(error).__name__}: {error}") from error
            else:
                raise AssertionError(f"{status}: no error")


def broken_streams(gateway, vendor):
    for kind in ("mid-error", "mid-cut"):
        events = []
        try:
            for event in client(gateway).messages.create(model=model(vendor, kind), max_tokens=9, messages=ASK, stream=True):
                events.append(event.type)
        except anthropic.APIError:
            contains(events, "content_block_delta")
        else:
            raise AssertionError(f"{kind}: the stream ended as if all were well: {events}")
    try:
        list(client(gateway).messages.create(model=model(vendor, "empty"), max_tokens=9, messages=ASK, stream=True))
    except anthropic.APIStatusError as error:
        assert error.status_code >= 500, error
    else:
        raise AssertionError("an empty stream is no answer")


def count_tokens(gateway, vendor):
    counted = client(gateway).messages.count_tokens(model=model(vendor, "text"), messages=ASK, system="Be brief.", tools=[TOOL], thinking={"type": "disabled"})
    if vendor == "openai":
        assert 1 < counted.input_tokens < 200, counted
    else:
        equal(counted.input_tokens, 123)


MATRIX = [
    text, stream, tools, tools_streamed, thinking_tools, thinking_tools_streamed, forced_tool, thinking, thinking_goes_to_another_vendor,
    structured, documents, stop_reasons, errors, broken_streams, count_tokens,
]


def models(gateway):
    api = client(gateway)
    ids = [listed.id for listed in api.models.list()]
    contains(ids, "anthropic/claude-text")
    equal(api.models.retrieve("openai/ft:gpt-text:acme::7p4lURel").id, "openai/ft:gpt-text:acme::7p4lURel")
    equal(api.models.retrieve("anthropic/claude-text").type, "model")
    try:
        api.models.retrieve("nobody")
    except anthropic.NotFoundError as error:
        equal(error.body["error"]["type"], "not_found_error")


def prefix(gateway):
    api = anthropic.Anthropic(base_url=f"{gateway.url}/anthropic", api_key="dummy", max_retries=0)
    equal(api.messages.create(model="claude-text", max_tokens=9, messages=ASK).content[0].text, TEXT)
    assert api.models.list().data
    equal(api.messages.count_tokens(model="claude-text", messages=ASK).input_tokens, 123)


def beta(gateway):
    api = client(gateway)
    api.beta.messages.create(model="claude-text", max_tokens=9, messages=ASK, betas=["context-1m-2025-08-07"])
    equal(seen()[-1]["headers"]["anthropic-beta"], "context-1m-2025-08-07")


ALONE = [models, prefix, beta]
