"""The official `google-genai` package for Python against every vendor."""

import functools

from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from harness import PNG, VENDORS, contains, equal, seen
from mock_base import TEXT

TOOL = types.Tool(function_declarations=[types.FunctionDeclaration(
    name="get_weather", description="Weather of a city",
    parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING"), "days": types.Schema(type="INTEGER", nullable=True)}, required=["city"]))])
NO_AUTO = types.AutomaticFunctionCallingConfig(disable=True)


@functools.cache
def client(gateway, prefix="", **options):
    """Kept: a client that nobody holds closes its connections in the middle of a call."""
    retry = types.HttpRetryOptions(attempts=1)
    return genai.Client(api_key="dummy", http_options=types.HttpOptions(base_url=gateway.url + prefix, retry_options=retry, **options))


def model(vendor, kind):
    return f"{vendor}/{VENDORS[vendor]}-{kind}"


def check_usage(usage, vendor):
    equal(usage.prompt_token_count, 100, "prompt tokens")
    equal(usage.cached_content_token_count, 64, "cached tokens")
    equal(usage.total_token_count, 120, "total tokens")
    if vendor != "anthropic":
        equal((usage.candidates_token_count, usage.thoughts_token_count), (12, 8), "output tokens")


def text(gateway, vendor):
    answer = client(gateway).models.generate_content(
        model=model(vendor, "text"),
        contents=[types.Content(role="user", parts=[types.Part(text="Hi")]), types.Content(role="model", parts=[types.Part(text="Hello")]), types.Content(role="user", parts=[types.Part(text="And?")])],
        config=types.GenerateContentConfig(system_instruction="Be brief.", temperature=0.5, max_output_tokens=99, stop_sequences=["STOP"], top_k=40))
    equal(answer.text, TEXT)
    equal(answer.candidates[0].finish_reason, types.FinishReason.STOP)
    check_usage(answer.usage_metadata, vendor)
    headers = {name.lower(): value for name, value in answer.sdk_http_response.headers.items()}
    equal(headers["x-bifrost-provider"], vendor)
    contains(seen()[-1]["raw"].decode(), "Be brief.")


def stream(gateway, vendor):
    chunks = list(client(gateway).models.generate_content_stream(model=model(vendor, "text"), contents="Hi"))
    equal("".join(chunk.text or "" for chunk in chunks), TEXT)
    equal(chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)
    check_usage(chunks[-1].usage_metadata, vendor)


def tools(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", False)


def tools_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "parallel", True)


def thinking_tools(gateway, vendor):
    tool_loop(gateway, vendor, "thinkparallel", False, thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000))


def thinking_tools_streamed(gateway, vendor):
    tool_loop(gateway, vendor, "thinktool", True, thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000))


def thinking_tools_of_a_client_that_drops_it(gateway, vendor):
    tool_loop(gateway, vendor, "thinktool", True, drop=True, thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000))


def tool_loop(gateway, vendor, kind, streamed, drop=False, **options):
    config = types.GenerateContentConfig(tools=[TOOL], automatic_function_calling=NO_AUTO, max_output_tokens=4000, **options)
    contents = [types.Content(role="user", parts=[types.Part(text="Weather?")])]
    api = client(gateway)
    if streamed:
        parts = []
        for chunk in api.models.generate_content_stream(model=model(vendor, kind), contents=contents, config=config):
            for candidate in chunk.candidates or []:
                parts += (candidate.content.parts if candidate.content else None) or []
    else:
        parts = api.models.generate_content(model=model(vendor, kind), contents=contents, config=config).candidates[0].content.parts
    if drop:
        parts = [types.Part(function_call=types.FunctionCall(name=part.function_call.name, args=part.function_call.args)) for part in parts if part.function_call]
        if vendor == "gemini":
            return
    calls = [part.function_call for part in parts if part.function_call]
    equal([call.args["city"] for call in calls], ["Paris", "Rome"] if "parallel" in kind else ["Paris"])
    contents.append(types.Content(role="model", parts=parts))
    results = [types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "21 degrees"})) for call in calls]
    contents.append(types.Content(role="user", parts=results))
    final = api.models.generate_content(model=model(vendor, kind), contents=contents, config=config)
    equal(final.text, "It is 21 degrees.")


def chat_with_functions(gateway, vendor):
    """The SDK's own loop: it calls the function and asks again."""
    asked = []

    def get_weather(city: str, days: int = 1) -> str:
        """Weather of a city."""
        asked.append(city)
        return "21 degrees"

    chat = client(gateway).chats.create(model=model(vendor, "parallel"), config=types.GenerateContentConfig(tools=[get_weather]))
    equal(chat.send_message("Weather?").text, "It is 21 degrees.")
    equal(asked, ["Paris", "Rome"])


def forced_tool(gateway, vendor):
    for mode, names in (("ANY", ["get_weather"]), ("ANY", None), ("NONE", None), ("AUTO", None), ("VALIDATED", None)):
        choice = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode=mode, allowed_function_names=names))
        client(gateway).models.generate_content(model=model(vendor, "tool"), contents="Hi", config=types.GenerateContentConfig(tools=[TOOL], tool_config=choice, automatic_function_calling=NO_AUTO))


def image(gateway, vendor):
    import base64

    parts = [types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"), types.Part(text="What?")]
    client(gateway).models.generate_content(model=model(vendor, "text"), contents=parts)
    contains(seen()[-1]["raw"].decode().replace("-", "+"), PNG)  # the SDK writes the alphabet for URLs


def thinking(gateway, vendor):
    for thinks in (types.ThinkingConfig(include_thoughts=True, thinking_budget=-1), types.ThinkingConfig(thinking_budget=0), types.ThinkingConfig(include_thoughts=True, thinking_level="LOW"), types.ThinkingConfig(include_thoughts=True, thinking_budget=512)):
        answer = client(gateway).models.generate_content(model=model(vendor, "think"), contents="Hi", config=types.GenerateContentConfig(thinking_config=thinks))
        equal(answer.text, TEXT)


def structured(gateway, vendor):
    from pydantic import BaseModel

    class Weather(BaseModel):
        city: str
        temperature: int

    for config in (
        types.GenerateContentConfig(response_mime_type="application/json", response_schema=Weather),
        types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=Weather.model_json_schema()),
    ):
        answer = client(gateway).models.generate_content(model=model(vendor, "json"), contents="Hi", config=config)
        equal(answer.text, '{"city": "Paris", "temperature": 21}')
        contains(seen()[-1]["raw"].decode(), "temperature")
    client(gateway).models.generate_content(model=model(vendor, "json"), contents="Hi", config=types.GenerateContentConfig(response_mime_type="application/json"))


def stop_reasons(gateway, vendor):
    for kind, reason in (("length", "MAX_TOKENS"), ("stopseq", "STOP"), ("filter", "SAFETY")):
        answer = client(gateway).models.generate_content(model=model(vendor, kind), contents="Hi")
        equal(answer.candidates[0].finish_reason.value, reason, kind)


def errors(gateway, vendor):
    for status, wanted in ((400, 400), (401, 401), (403, 403), (404, 404), (429, 429), (500, 500), (503, 503)):
        if (vendor, status) == ("gemini", 401):
            wanted = 400
        kind = genai_errors.ClientError if status < 500 else genai_errors.ServerError
        for streamed in (False, True):
            try:
                call = client(gateway).models
                if streamed:
                    list(call.generate_content_stream(model=model(vendor, f"error-{status}"), contents="Hi"))
                else:
                    call.generate_content(model=model(vendor, f"error-{status}"), contents="Hi")
            except kind as error:
                assert error.code == wanted or status == 500 and error.code in (500, 502), f"{status}: {error.code} {error}"
                contains(error.message, "mock says" if (vendor, status) != ("gemini", 401) else "API key")
            except genai_errors.APIError as error:
                raise AssertionError(f"{status}: {type(error).__name__}: {error}") from error
            else:
                raise AssertionError(f"{status}: no error")


def broken_streams(gateway, vendor):
    for kind in ("mid-error", "mid-cut"):
        said = ""
        try:
            for chunk in client(gateway).models.generate_content_stream(model=model(vendor, kind), contents="Hi"):
                said += chunk.text or ""
        except genai_errors.APIError:
            assert said, f"{kind}: nothing came before the error"
        except Exception as error:
            raise AssertionError(f"{kind}: {type(error).__name__}: {error}") from error
        else:
            raise AssertionError(f"{kind}: the stream ended as if all were well: {said!r}")
    try:
        list(client(gateway).models.generate_content_stream(model=model(vendor, "empty"), contents="Hi"))
    except genai_errors.ServerError:
        pass
    else:
        raise AssertionError("an empty stream is no answer")


def count_tokens(gateway, vendor):
    counted = client(gateway).models.count_tokens(model=model(vendor, "text"), contents="How many tokens are these?")
    assert counted.total_tokens == 123 or vendor == "openai" and 1 < counted.total_tokens < 50, counted


MATRIX = [
    text, stream, tools, tools_streamed, thinking_tools, thinking_tools_streamed, thinking_tools_of_a_client_that_drops_it, chat_with_functions,
    forced_tool, image, thinking, structured, stop_reasons, errors, broken_streams, count_tokens,
]


def embeddings(gateway):
    for vendor in ("gemini", "openai"):
        two = [types.Content(role="user", parts=[types.Part(text=text)]) for text in ("one", "two")]
        for texts in ("one", two):
            answer = client(gateway).models.embed_content(model=model(vendor, "embed"), contents=texts, config=types.EmbedContentConfig(task_type="RETRIEVAL_QUERY"))
            equal(answer.embeddings[0].values, [0.25, -0.5, 1.0], f"{vendor} {texts}")
            equal(len(answer.embeddings), 1 if isinstance(texts, str) else 2, f"{vendor} {texts}")


def models(gateway):
    for options in ({}, {"prefix": "/genai"}, {"api_version": "v1"}, {"prefix": "/genai", "api_version": "v1"}):
        api = client(gateway, **options)
        if options != {"api_version": "v1"}:
            names = [listed.name for listed in api.models.list()]
            contains(names, "models/gemini/gemini-3-text")
            equal(api.models.get(model="gemini/gemini-3-text").name, "models/gemini/gemini-3-text")
        for id in ("gemini-3-text", "models/gemini-3-text", "gemini/gemini-3-text", "openai/ft:gpt-text:acme::7p4lURel"):
            equal(api.models.generate_content(model=id, contents="Hi").text, TEXT, f"{options} {id}")


ALONE = [embeddings, models]
