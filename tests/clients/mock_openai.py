"""OpenAI's chat, embeddings and models as a strict server would answer them (platform.openai.com/docs/api-reference)."""

import base64
import json
import re
import struct

from mock_base import Refusal, Reply, sse

CHAT_FIELDS = set(
    "model messages audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens "
    "metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options temperature "
    "tool_choice tools top_logprobs top_p user verbosity web_search_options".split()
)
MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call", "annotations"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
PART_FIELDS = {
    "text": {"type", "text"},
    "refusal": {"type", "refusal"},
    "image_url": {"type", "image_url"},
    "input_audio": {"type", "input_audio"},
    "file": {"type", "file"},
}
NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


def refuse(message, param=None, code=None, status=400):
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    raise Refusal(status, body)


def only(fields, value, where):
    if not isinstance(value, dict):
        refuse(f"Invalid type for '{where}': expected an object.", where, "invalid_type")
    for key in value:
        if key not in fields:
            refuse(f"Unknown parameter: '{where}.{key}'.", f"{where}.{key}", "unknown_parameter")


def check_parts(content, role, where):
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        refuse(f"Invalid type for '{where}': expected a string or an array.", where, "invalid_type")
    for number, part in enumerate(content):
        spot = f"{where}[{number}]"
        kind = part.get("type")
        if kind not in PART_FIELDS:
            refuse(f"Invalid value: '{kind}'.", f"{spot}.type", "invalid_value")
        only(PART_FIELDS[kind], part, spot)
        allowed = {"user": set(PART_FIELDS) - {"refusal"}, "assistant": {"text", "refusal"}}.get(role, {"text"})
        if kind not in allowed:
            refuse(f"Invalid content type '{kind}' for role '{role}'.", spot, "invalid_value")
        if kind == "image_url":
            only({"url", "detail"}, part["image_url"], f"{spot}.image_url")
            if not re.match(r"^(https?://|data:image/(png|jpeg|gif|webp);base64,)", part["image_url"]["url"]):
                refuse("Invalid image URL.", f"{spot}.image_url.url", "invalid_image_url")


def check_chat(body):
    for key in body:
        if key not in CHAT_FIELDS:
            refuse(f"Unrecognized request argument supplied: {key}")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        refuse("Invalid 'messages': empty array.", "messages", "empty_array")
    open_calls = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if role not in MESSAGE_FIELDS:
            refuse(f"Invalid value: '{role}'.", f"{where}.role", "invalid_value")
        only(MESSAGE_FIELDS[role], message, where)
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                refuse("messages with role 'tool' must be a response to a preceding message with 'tool_calls'.", where)
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            refuse(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {open_calls}",
                where,
            )
        content = message.get("content")
        if content is None:
            if not (role == "assistant" and message.get("tool_calls")):
                refuse(f"Invalid value for 'content': expected a string, got null.", f"{where}.content")
        else:
            check_parts(content, role, f"{where}.content")
        if "tool_calls" in message and not message["tool_calls"]:
            refuse(f"Invalid '{where}.tool_calls': empty array.", where, "empty_array")
        for call in message.get("tool_calls") or []:
            only({"id", "type", "function", "index"}, call, f"{where}.tool_calls")
            only({"name", "arguments"}, call["function"], f"{where}.tool_calls.function")
            if len(call["id"]) > 40:
                refuse("string too long. Expected a string with maximum length 40", f"{where}.tool_calls.id")
            if not isinstance(call["function"]["arguments"], str):
                refuse("Invalid type for arguments: expected a string.", where)
            open_calls.append(call["id"])
    if open_calls:
        refuse(f"tool_call_ids did not have response messages: {open_calls}", "messages")
    check_options(body)


def check_options(body):
    if len(body.get("user") or "") > 64:
        refuse("Invalid 'user': string too long. Expected a string with maximum length 64.", "user", "string_above_max_length")
    if body.get("reasoning_effort") not in (None, "none"):
        for name, default in (("temperature", 1), ("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0), ("logprobs", False)):
            if body.get(name) not in (None, default):
                refuse(f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter")
    for tool in body.get("tools") or []:
        only({"type", "function", "custom"}, tool, "tools")
        only({"name", "description", "parameters", "strict"}, tool["function"], "tools.function")
        if not NAME.match(tool["function"]["name"]):
            refuse("Invalid 'tools[0].function.name'.", "tools")
        if tool["function"].get("parameters", {}).get("type", "object") != "object":
            refuse("Invalid schema for function: schema must be a JSON Schema of 'type: \"object\"'.", "tools")
    if body.get("tool_choice") is not None and not body.get("tools"):
        refuse("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if body.get("parallel_tool_calls") is not None and not body.get("tools"):
        refuse("'parallel_tool_calls' is only allowed when 'tools' are specified.", "parallel_tool_calls")
    if body.get("stream_options") is not None and not body.get("stream"):
        refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        refuse("Invalid 'stop': array too long. Expected an array with maximum length 4.", "stop")
    if "max_tokens" in body and "max_completion_tokens" in body:
        refuse("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens")
    if "max_tokens" in body and "think" in body["model"]:
        refuse("Unsupported parameter: 'max_tokens' is not supported with this model.", "max_tokens")
    if body.get("reasoning_effort") not in (None, "none", "minimal", "low", "medium", "high", "xhigh", "max"):
        refuse("Invalid value for 'reasoning_effort'.", "reasoning_effort")
    form = body.get("response_format")
    if form:
        if form["type"] not in ("text", "json_object", "json_schema"):
            refuse("Invalid 'response_format'.", "response_format")
        if form["type"] == "json_schema":
            only({"name", "description", "schema", "strict"}, form["json_schema"], "response_format.json_schema")
            if not NAME.match(form["json_schema"].get("name", "")):
                refuse("Missing required parameter: 'response_format.json_schema.name'.", "response_format")


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
}
FINISH = {"end": "stop", "tool": "tool_calls", "length": "length", "stopseq": "stop", "filter": "content_filter"}


def head(model, stream):
    kind = "chat.completion.chunk" if stream else "chat.completion"
    return {"id": "chatcmpl-B9mock", "object": kind, "created": 1741569952, "model": f"{model}-2026-01-01", "service_tier": "default", "system_fingerprint": "fp_mock"}


def chat(body, turn):
    check_chat(body)
    model = body["model"]
    if not body.get("stream"):
        message = {"role": "assistant", "content": turn.text, "refusal": None, "annotations": []}
        if turn.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.args)}}
                for call in turn.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[turn.stop]}
        return Reply.json({**head(model, False), "choices": [choice], "usage": USAGE})
    wants_usage = (body.get("stream_options") or {}).get("include_usage")

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        extra = {"usage": None} if wants_usage else {}
        return sse({**head(model, True), "choices": [choice], **extra, "obfuscation": "x9"})

    frames = [chunk({"role": "assistant", "content": None if turn.calls else "", "refusal": None})]
    frames += [chunk({"content": piece}) for piece in turn.pieces()]
    for index, call in enumerate(turn.calls):
        function = {"name": call.name, "arguments": ""}
        frames.append(chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}))
        frames += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in call.pieces()
        ]
    if turn.midstream == "error":
        frames.append(sse({"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}}))
        return Reply.events(frames)
    if turn.midstream == "cut":
        return Reply.events(frames, cut=True)
    frames.append(chunk({}, FINISH[turn.stop]))
    if wants_usage:
        frames.append(sse({**head(model, True), "choices": [], "usage": USAGE, "obfuscation": ""}))
    return Reply.events(frames + [b"data: [DONE]\n\n"], linger=turn.linger)


def embeddings(body):
    for key in body:
        if key not in {"model", "input", "encoding_format", "dimensions", "user"}:
            refuse(f"Unrecognized request argument supplied: {key}")
    inputs = body["input"] if isinstance(body["input"], list) and not isinstance(body["input"][0], int) else [body["input"]]
    data = []
    for index, _ in enumerate(inputs):
        vector = [0.25 * (index + 1), -0.5, 1.0]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return Reply.json({"object": "list", "data": data, "model": body["model"], "usage": usage})


ERRORS = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    402: ("insufficient_quota", "insufficient_quota"),
    500: ("server_error", None),
    503: ("server_error", None),
}


def error(status):
    kind, code = ERRORS[status]
    sent = 429 if status == 402 else status
    body = {"error": {"message": f"mock says {status}", "type": kind, "param": None, "code": code}}
    return Reply.json(body, sent, {"retry-after": "3", "x-ratelimit-remaining-requests": "0"} if sent == 429 else {})


def models(ids):
    data = [{"id": id, "object": "model", "created": 1686935002, "owned_by": "openai"} for id in ids]
    return Reply.json({"object": "list", "data": data})
