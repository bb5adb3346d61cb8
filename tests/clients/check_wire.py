"""What no SDK shows: the bytes that the vendors got, the headers, the credentials, the framing."""

import json

from harness import KEYS, contains, equal, seen

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "Hi"}]


def frames(body):
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]


def the_same_dialect_keeps_the_bytes(gateway):
    for path, sent, model, wanted in (
        (CHAT, b'{ "temperature":1.0e0,\n "messages" : [{"content":"h\\u00e9 \xc3\xa9","role":"user"}],"model":"openai/gpt-text","seed":1 }', b'"openai/gpt-text"', b'"gpt-text"'),
        ("/v1/messages", b'{"max_tokens":  9, "messages":[{"content":"h\\u00e9","role":"user"}],\t"model":"anthropic/claude-text","top_k":1}', b'"anthropic/claude-text"', b'"claude-text"'),
        ("/v1beta/models/gemini/gemini-3-text:generateContent", b'{"generation_config": {"top_k": 1.0} , "contents":[{"parts":[{"text":"h\\u00e9"}]}]}', b"", b""),
    ):
        status, _, body = gateway.request("POST", path, sent)
        equal(status, 200, body)
        equal(seen()[-1]["raw"], sent.replace(model, wanted))


def an_answer_of_the_same_dialect_keeps_its_bytes(gateway):
    _, headers, body = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK})
    contains(body.decode(), '"system_fingerprint": "fp_mock"')
    equal(headers["content-type"], "application/json")


def usage_is_asked_for_and_taken_out_again(gateway):
    status, _, body = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK, "stream": True})
    equal(seen()[-1]["json"]["stream_options"], {"include_usage": True})
    assert all(frame["choices"] and not frame.get("usage") for frame in frames(body)), body
    contains(body.decode(), "data: [DONE]")
    for options in ({"include_usage": False}, {"include_obfuscation": False}, None):
        _, _, body = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK, "stream": True, "stream_options": options})
        assert all(frame["choices"] and not frame.get("usage") for frame in frames(body)), body
    _, _, body = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}})
    equal(frames(body)[-1]["usage"]["total_tokens"], 120)


def headers_go_to_their_own_vendor_only(gateway):
    sent = {"anthropic-beta": "b-1", "anthropic-version": "2023-06-01", "openai-organization": "o", "openai-project": "p", "openai-beta": "x", "idempotency-key": "i", "cookie": "c=1", "x-api-key": "sk-ant-client-0123456789abcdef", "authorization": "Bearer sk-client-0123456789abcdef", "x-goog-api-key": "AIza-client-0123456789abcdef", "x-forwarded-for": "1.2.3.4"}
    gateway.request("POST", CHAT, {"model": "openai/gpt-text", "messages": ASK}, sent)
    gateway.request("POST", CHAT, {"model": "anthropic/claude-text", "messages": ASK}, sent)
    gateway.request("POST", "/v1/messages", {"model": "anthropic/claude-text", "max_tokens": 5, "messages": ASK}, sent)
    gateway.request("POST", "/v1/messages", {"model": "gemini/gemini-3-text", "max_tokens": 5, "messages": ASK}, sent)
    to_openai, to_anthropic, from_anthropic, to_gemini = (entry["headers"] for entry in seen())
    equal((to_openai["openai-organization"], to_openai["openai-project"], to_openai["idempotency-key"]), ("o", "p", "i"))
    equal(to_openai["authorization"], f"Bearer {KEYS['openai']}")
    equal(to_anthropic["x-api-key"], KEYS["anthropic"])
    equal(from_anthropic["anthropic-beta"], "b-1")
    assert "authorization" not in from_anthropic, from_anthropic
    equal(to_gemini["x-goog-api-key"], KEYS["gemini"])
    for headers in (to_openai, to_anthropic, from_anthropic, to_gemini):
        contains(list(headers), "user-agent")
        for name, value in headers.items():
            assert "client" not in value and name not in ("cookie", "x-forwarded-for"), (name, value)
    assert "openai-organization" not in to_anthropic and "anthropic-beta" not in to_gemini


def gemini_streams_as_an_array(gateway):
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    for model in ("gemini/gemini-3-text", "openai/gpt-text", "anthropic/claude-text"):
        status, headers, raw = gateway.request("POST", f"/v1beta/models/{model}:streamGenerateContent", body)
        chunks = json.loads(raw)
        equal(headers["content-type"], "application/json")
        said = "".join(part.get("text", "") for chunk in chunks for candidate in chunk.get("candidates", []) for part in candidate["content"].get("parts", []))
        contains(said, "Fine.")
    for model in ("gemini/gemini-3-mid-error", "openai/gpt-mid-error", "gemini/gemini-3-mid-cut", "anthropic/claude-mid-cut"):
        _, _, raw = gateway.request("POST", f"/v1beta/models/{model}:streamGenerateContent", body)
        contains(json.loads(raw)[-1], "error")


def query_keys_of_gemini_do_not_travel(gateway):
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    status, _, raw = gateway.request("POST", "/v1beta/models/gemini-3-text:generateContent?key=AIza-client-0123456789abcdef", body)
    equal(status, 200, raw)
    entry = seen()[-1]
    equal((entry["query"], entry["headers"]["x-goog-api-key"]), ("", KEYS["gemini"]))


def models_in_anthropics_shape(gateway):
    _, _, raw = gateway.request("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"})
    equal(json.loads(raw)["data"][0]["type"], "model")
    _, _, raw = gateway.request("GET", "/v1/models/openai%2Fgpt-text")
    equal(json.loads(raw)["id"], "openai/gpt-text")


def bad_requests_are_told_in_the_clients_dialect(gateway):
    gemini = "/v1beta/models/gemini-3-text:generateContent"
    for path, body, status in (
        (CHAT, b"{", 400), (CHAT, b"[]", 400), (CHAT, b"", 400), (CHAT, b'{"messages":[]}', 400), (CHAT, b'{"model":7,"messages":[]}', 400), (CHAT, b'{"model":"anthropic/claude-text","messages":"x"}', 400),
        (CHAT, b'{"model":"anthropic/claude-text"}', 400), (CHAT, b'{"model":"anthropic/claude-text","messages":[{"role":"robot","content":"x"}]}', 400),
        ("/v1/messages", b"{", 400), ("/v1/messages", b'{"model":"openai/gpt-text","messages":[{"role":"user","content":7}]}', 400),
        (gemini, b"{", 400), ("/v1beta/models/openai/gpt-text:generateContent", b'{"contents":7}', 400), ("/v1beta/models/x:explode", b"{}", 404),
        ("/v1/messages/batches", b"{}", 404), ("/v1/nothing", b"{}", 404),
    ):
        found, headers, raw = gateway.request("POST", path, body)
        equal(found, status, f"{path} {body} {raw}")
        error = json.loads(raw)
        assert headers["x-request-id"], headers
        if path.startswith("/v1/messages"):
            equal(error["type"], "error", raw)
        elif path.startswith("/v1beta"):
            equal(error["error"]["code"], status, raw)
        else:
            contains(list(error["error"]), "param")


def a_wrong_content_type_or_host_is_refused(gateway):
    status, _, _ = gateway.request("POST", CHAT, b'{"model":"gpt-text","messages":[]}', {"content-type": "text/plain"})
    assert status in (400, 415), status
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        status, _, _ = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK}, headers)
        equal(status, 403, headers)
    equal(seen(), [])


def fallbacks_are_taken_and_not_sent(gateway):
    body = {"model": "openai/gpt-error-503", "messages": ASK, "fallbacks": ["anthropic/claude-text"]}
    status, headers, raw = gateway.request("POST", CHAT, body)
    equal(status, 200, raw)
    equal((headers["x-bifrost-provider"], headers["x-bifrost-fallback"]), ("anthropic", "openai/gpt-error-503"))
    assert not any("fallbacks" in entry["json"] for entry in seen())


ALL = [
    the_same_dialect_keeps_the_bytes, an_answer_of_the_same_dialect_keeps_its_bytes, usage_is_asked_for_and_taken_out_again,
    headers_go_to_their_own_vendor_only, gemini_streams_as_an_array, query_keys_of_gemini_do_not_travel, models_in_anthropics_shape,
    bad_requests_are_told_in_the_clients_dialect, a_wrong_content_type_or_host_is_refused, fallbacks_are_taken_and_not_sent,
]


def a_clients_own_key_reaches_its_own_vendor(gateway):
    messages = {"model": "claude-text", "max_tokens": 5, "messages": ASK}
    for headers in ({"x-api-key": "sk-ant-client-0123456789abcdef"}, {"authorization": "Bearer sk-ant-oat01-client-0123456789abcdef"}):
        status, _, raw = gateway.request("POST", "/v1/messages", messages, headers)
        equal(status, 200, raw)
        name, value = next(iter(headers.items()))
        equal(seen()[-1]["headers"][name], value)
    status, _, raw = gateway.request("POST", "/v1/messages/count_tokens", {"model": "claude-text", "messages": ASK}, headers)
    equal(status, 200, raw)
    seen()
    status, _, raw = gateway.request("POST", CHAT, {"model": "gpt-text", "messages": ASK}, {"authorization": "Bearer sk-client-0123456789abcdef"})
    equal((status, seen()[-1]["headers"]["authorization"]), (200, "Bearer sk-client-0123456789abcdef"))
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    status, _, raw = gateway.request("POST", "/v1beta/models/gemini-3-text:generateContent", body, {"x-goog-api-key": "AIza-client-0123456789abcdef"})
    equal((status, seen()[-1]["headers"]["x-goog-api-key"]), (200, "AIza-client-0123456789abcdef"))
    status, _, raw = gateway.request("POST", "/v1beta/models/gemini-3-text:generateContent?key=AIza-client-0123456789abcdef", body)
    equal((status, seen()[-1]["headers"]["x-goog-api-key"]), (200, "AIza-client-0123456789abcdef"))


def a_clients_own_key_reaches_nobody_else(gateway):
    for path, body, headers in (
        ("/v1/messages", {"model": "openai/gpt-text", "max_tokens": 5, "messages": ASK}, {"x-api-key": "sk-ant-client-0123456789abcdef"}),
        (CHAT, {"model": "anthropic/claude-text", "messages": ASK}, {"authorization": "Bearer sk-client-0123456789abcdef"}),
        (CHAT, {"model": "openai/gpt-text", "messages": ASK}, {"authorization": "Bearer dummy"}),
        ("/v1/messages", {"model": "anthropic/claude-text", "max_tokens": 5, "messages": ASK}, {"x-api-key": "not-needed"}),
    ):
        status, _, raw = gateway.request("POST", path, body, headers)
        assert 400 <= status < 600, (status, raw)
        assert "client" not in raw.decode(), raw
    equal(seen(), [])


WITHOUT_KEYS = [a_clients_own_key_reaches_its_own_vendor, a_clients_own_key_reaches_nobody_else]
