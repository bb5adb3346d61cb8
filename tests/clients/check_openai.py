"""The official `openai` package for Python against every vendor."""

import json

import openai
from harness import PNG, VENDORS, contains, equal, seen
from mock_base import TEXT

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": ["integer", "null"], "exclusiveMinimum": 0},
                "unit": {"anyOf": [{"type": "string", "const": "c"}, {"$ref": "#/$defs/unit"}]},
            },
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {"unit": {"type": "string", "enum": ["f"]}},
        },
    },
}
ASK = [{"role": "user", "content": "Weather in Paris?"}]


def client(gateway, **options):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="dummy", max_retries=0, **options)


def model(vendor, kind):
    return f"{vendor}/{VENDORS[vendor]}-{kind}"


def check_usage(usage, vendor):
    equal(usage.prompt_tokens, 100, "prompt tokens")
    equal(usage.completion_tokens, 20, "completion tokens")
    equal(usage.total_tokens, 120, "total tokens")
    equal(usage.prompt_tokens_details.cached_tokens, 64, "cached tokens")
    if vendor != "anthropic":
        equal(usage.completion_tokens_details.reasoning_tokens, 8, "reasoning tokens")


def text(gateway, vendor):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Speak English."}]},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    raw = client(gateway).chat.completions.with_raw_response.create(
        model=model(vendor, "text"), messages=messages, temperature=0.5, max_completion_tokens=99, stop=["STOP", "END"])
    answer = raw.parse()
    equal(answer.choices[0].message.content, TEXT)
    equal(answer.choices[0].finish_reason, "stop")
    equal(answer.object, "chat.completion")
    check_usage(answer.usage, vendor)
    equal(raw.headers["x-bifrost-provider"], vendor)
    equal(raw.headers["x-bifrost-model"], f"{VENDORS[vendor]}-text")
    assert raw.headers["x-request-id"] and int(raw.headers["x-bifrost-overhead-us"]) >= 0
    sent = seen()[-1]["json"]
    if vendor == "anthropic":
        contains(sent["system"], "Be brief.")
        contains(sent["system"], "Speak English.")
        equal(sent["stop_sequences"], ["STOP", "END"])
        equal(sent["max_tokens"], 99)
    if vendor == "gemini":
        equal(sent["generationConfig"]["maxOutputTokens"], 99)
        equal([content["role"] for content in sent["contents"]], ["user", "model", "user"])


def stream(gateway, vendor):
    chunks = list(client(gateway).chat.completions.create(model=model(vendor, "text"), messages=ASK, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    equal(said, TEXT)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage that nobody asked for"
    equal([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason], ["stop"])
    equal(len({chunk.id for chunk in chunks}), 1, "ids")
    equal(chunks[0].choices[0].delta.role, "assistant")


def stream_with_usage(gateway, vendor):
    chunks = list(client(gateway).chat.completions.create(
        model=model(vendor, "text"), messages=ASK, stream=True, stream_options={"include_usage": True}))
    equal([bool(chunk.usage) for chunk in chunks], [False] * (len(chunks) - 1) + [True])
    equal(chunks[-1].choices, [])
    check_usage(chunks[-1].usage, vendor)


def tools(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", False)


def tools_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", True)


def thinking_tools_of_a_client_that_drops_it(gateway, vendor):
    tool_loop(gateway, vendor, "thinktool", False, reasoning_effort="low")


def thinking_tools_of_a_client_that_drops_it_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "thinkparallel", True, reasoning_effort="low")


def thinking_tools_with_a_vendor_slow_to_close(gateway, vendor):
    tool_loop(gateway, vendor, "thinktool-linger", True, reasoning_effort="low")


def thinking_tools_kept(gateway, vendor):
    """A client that sends the whole message back, what it does not know included."""
    tool_loop(gateway, vendor, "thinkparallel", False, keep=True, reasoning_effort="low")


def tool_loop(gateway, vendor, kind, streamed, keep=False, **options):
    api = client(gateway)
    messages = list(ASK)
    create = lambda: api.chat.completions.create(model=model(vendor, kind), messages=messages, tools=[TOOL], stream=streamed, **options)
    if streamed:
        message = gather(create())
        # What was made is put back as any agent does: role, content, tool calls.
    else:
        answer = create()
        equal(answer.choices[0].finish_reason, "tool_calls")
        message = answer.choices[0].message.model_dump(exclude_none=True)
        for key in [] if keep else ["reasoning_content", "reasoning_details", "annotations"]:
            message.pop(key, None)
        for call in [] if keep else message["tool_calls"]:
            for key in set(call) - {"id", "type", "function"}:
                del call[key]
    if keep and vendor == "openai":
        message.pop("reasoning_content", None)
    calls = message["tool_calls"]
    cities = [json.loads(call["function"]["arguments"])["city"] for call in calls]
    equal(cities, ["Paris", "Rome"] if "parallel" in kind else ["Paris"])
    equal(len({call["id"] for call in calls}), len(calls), "call ids")
    messages.append(message)
    for call in calls:
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"})
    answer = api.chat.completions.create(model=model(vendor, kind), messages=messages, tools=[TOOL], **options)
    equal(answer.choices[0].message.content, "It is 21 degrees.")
    second = seen()[-1]["json"]
    if vendor == "anthropic" and "think" in kind:
        contains(["enabled", "adaptive"], second["thinking"]["type"])
        contains(second["messages"], "I think, therefore.")
    if vendor == "gemini":
        contains(second, "functionResponse")
        if "think" in kind:
            from mock_gemini import SIGNATURE
            contains(second, SIGNATURE)


def gather(chunks):
    """Puts a stream together by index, as the guides do."""
    calls, said, reasons = {}, "", []
    for chunk in chunks:
        for choice in chunk.choices:
            said += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for piece in choice.delta.tool_calls or []:
                if piece.index not in calls:
                    equal(piece.type, "function")
                    calls[piece.index] = {"id": piece.id, "type": "function", "function": {"name": piece.function.name, "arguments": ""}}
                calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""
    equal(reasons, ["tool_calls"])
    return {"role": "assistant", "content": said or None, "tool_calls": [calls[index] for index in sorted(calls)]}


def stream_helper(gateway, vendor):
    """The SDK's own accumulator is the strictest reader there is."""
    with client(gateway).chat.completions.stream(model=model(vendor, "parallel"), messages=ASK, tools=[TOOL]) as events:
        final = events.get_final_completion()
    equal([json.loads(call.function.arguments)["city"] for call in final.choices[0].message.tool_calls], ["Paris", "Rome"])


def forced_tool(gateway, vendor):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    client(gateway).chat.completions.create(model=model(vendor, "tool"), messages=ASK, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
    sent = seen()[-1]["json"]
    if vendor == "anthropic":
        equal(sent["tool_choice"], {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True})
    if vendor == "gemini":
        equal(sent["toolConfig"]["functionCallingConfig"], {"mode": "ANY", "allowedFunctionNames": ["get_weather"]})
    for mode in ("required", "none", "auto"):
        client(gateway).chat.completions.create(model=model(vendor, "tool"), messages=ASK, tools=[TOOL], tool_choice=mode)


def forced_tool_while_thinking(gateway, vendor):
    client(gateway).chat.completions.create(
        model=model(vendor, "thinktool"), messages=ASK, tools=[TOOL], tool_choice="required", reasoning_effort="high", temperature=1 if vendor == "openai" else 0.3)


def image(gateway, vendor):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}]
    client(gateway).chat.completions.create(model=model(vendor, "text"), messages=[{"role": "user", "content": content}])
    contains(seen()[-1]["raw"].decode(), PNG)
    content[1]["image_url"]["url"] = "https://example.com/a.png"
    client(gateway).chat.completions.create(model=model(vendor, "text"), messages=[{"role": "user", "content": content}])


def thinking(gateway, vendor):
    for effort in ("minimal", "low", "medium", "high", "none"):
        answer = client(gateway).chat.completions.create(model=model(vendor, "think"), messages=ASK, reasoning_effort=effort, max_completion_tokens=3000)
        equal(answer.choices[0].message.content, TEXT)
        if vendor == "anthropic" and effort == "high":
            equal(answer.choices[0].message.reasoning_content, "I think, therefore.")


def structured(gateway, vendor):
    from pydantic import BaseModel

    class Weather(BaseModel):
        city: str
        temperature: int

    answer = client(gateway).chat.completions.parse(model=model(vendor, "json"), messages=ASK, response_format=Weather)
    equal(answer.choices[0].message.parsed, Weather(city="Paris", temperature=21))
    contains(seen()[-1]["raw"].decode(), "temperature")
    client(gateway).chat.completions.create(model=model(vendor, "json"), messages=ASK, response_format={"type": "json_object"})


def odd_histories(gateway, vendor):
    """What agents really send: two users in a row, an assistant first, empty texts, a tool loop at the end without tools."""
    call = {"id": "call_x", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    histories = [
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "assistant", "content": "Welcome."}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "b"}],
        [{"role": "system", "content": ""}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_x", "content": ""}, {"role": "user", "content": "go on"}],
        [{"role": "user", "content": "a"}, {"role": "system", "content": "Now French."}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "ends in space "}, {"role": "user", "content": "b"}, {"role": "system", "content": "late"}],
    ]
    if vendor != "openai":
        histories.append([{"role": "system", "content": "Only a system prompt."}])
    for number, messages in enumerate(histories):
        try:
            client(gateway).chat.completions.create(model=model(vendor, "text"), messages=messages)
        except openai.APIError as error:
            raise AssertionError(f"history {number}: {error}") from error


def odd_options(gateway, vendor):
    for number, options in enumerate([
        {"temperature": 1.7}, {"temperature": 0.2, "top_p": 0.9}, {"stop": "\n"}, {"stop": [" ", "END"]}, {"n": 1}, {"seed": 7},
        {"logprobs": True, "top_logprobs": 2}, {"presence_penalty": 0.1}, {"logit_bias": {"50256": -100}}, {"user": "ada"},
        {"metadata": {"a": "b"}}, {"store": True}, {"service_tier": "auto"}, {"verbosity": "low"}, {"prompt_cache_key": "k"},
        {"max_completion_tokens": 1}, {"reasoning_effort": "high", "max_completion_tokens": 500}, {"tools": [{"type": "function", "function": {"name": "now"}}]},
        {"tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]},
    ]):
        try:
            client(gateway).chat.completions.create(model=model(vendor, "text"), messages=ASK, **options)
        except openai.APIError as error:
            raise AssertionError(f"{options}: {error}") from error


def stop_reasons(gateway, vendor):
    for kind, wanted in (("length", "length"), ("stopseq", "stop"), ("filter", "content_filter")):
        answer = client(gateway).chat.completions.create(model=model(vendor, kind), messages=ASK)
        equal(answer.choices[0].finish_reason, wanted, kind)
        chunks = list(client(gateway).chat.completions.create(model=model(vendor, kind), messages=ASK, stream=True))
        equal(chunks[-1].choices[0].finish_reason, wanted, f"{kind} streamed")


ERRORS = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
    404: openai.NotFoundError, 429: openai.RateLimitError, 402: openai.RateLimitError, 500: openai.InternalServerError, 503: openai.InternalServerError,
}


def errors(gateway, vendor):
    for status, kind in ERRORS.items():
        if (vendor, status) == ("anthropic", 402):
            continue
        for streamed in (False, True):
            try:
                client(gateway).chat.completions.create(model=model(vendor, f"error-{status}"), messages=ASK, stream=streamed)
            except kind as error:
                headers = error.response.headers
                assert headers["x-request-id"] and headers["x-bifrost-attempts"], headers
                contains(headers["x-bifrost-attempts"], vendor)
                if status == 429:
                    equal(headers["retry-after"], "3")
            except openai.APIError as error:
                raise AssertionError(f"{status}: {type(error).__name__}: {error}") from error
            else:
                raise AssertionError(f"{status}: no error")


def broken_streams(gateway, vendor):
    for kind in ("mid-error", "mid-cut"):
        said = ""
        try:
            for chunk in client(gateway).chat.completions.create(model=model(vendor, kind), messages=ASK, stream=True):
                said += chunk.choices[0].delta.content or "" if chunk.choices else ""
        except openai.APIError:
            assert said, f"{kind}: nothing came before the error"
        else:
            raise AssertionError(f"{kind}: the stream ended as if all were well: {said!r}")
    try:
        list(client(gateway).chat.completions.create(model=model(vendor, "empty"), messages=ASK, stream=True))
    except openai.InternalServerError:
        pass
    else:
        raise AssertionError("an empty stream is no answer")


MATRIX = [
    text, stream, stream_with_usage, tools, tools_streamed, thinking_tools_of_a_client_that_drops_it,
    thinking_tools_of_a_client_that_drops_it_streamed, thinking_tools_with_a_vendor_slow_to_close, thinking_tools_kept, stream_helper, forced_tool,
    forced_tool_while_thinking, image, thinking, structured, odd_histories, odd_options, stop_reasons, errors, broken_streams,
]


def embeddings(gateway):
    for vendor in ("openai", "gemini"):
        for wanted in ("float", "base64", openai.NOT_GIVEN):
            for texts in ("one", ["one", "two"]):
                answer = client(gateway).embeddings.create(model=model(vendor, "embed"), input=texts, encoding_format=wanted)
                first = answer.data[0].embedding
                if wanted == "base64":
                    assert isinstance(first, str), first
                else:
                    equal(list(first), [0.25, -0.5, 1.0])
                equal(len(answer.data), 1 if texts == "one" else 2)
    try:
        client(gateway).embeddings.create(model=model("anthropic", "text"), input="x")
    except (openai.BadRequestError, openai.NotFoundError):
        pass


def models(gateway):
    ids = [listed.id for listed in client(gateway).models.list()]
    for id in ("openai/gpt-text", "anthropic/claude-text", "gemini/gemini-3-text", "openai/ft:gpt-text:acme::7p4lURel", "coding"):
        assert id in ids, f"{id}: {ids}"
        equal(client(gateway).models.retrieve(id).id, id)
    try:
        client(gateway).models.retrieve("nobody/nothing:7b")
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found")
    answer = client(gateway).chat.completions.create(model="openai/ft:gpt-text:acme::7p4lURel", messages=ASK)
    equal(answer.choices[0].message.content, TEXT)


def prefixes(gateway):
    for prefix in ("/openai", "/openai/v1", "/v1"):
        api = openai.OpenAI(base_url=gateway.url + prefix, api_key="dummy", max_retries=0)
        equal(api.chat.completions.create(model="gpt-text", messages=ASK).choices[0].message.content, TEXT)
        assert list(api.models.list())
        api.models.retrieve("openai/gpt-text")


def unknown_model(gateway):
    try:
        client(gateway).chat.completions.create(model="gpt-textt", messages=ASK)
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found")
        contains(error.message, "gpt-text")
    else:
        raise AssertionError("no error")


ALONE = [embeddings, models, prefixes, unknown_model]
