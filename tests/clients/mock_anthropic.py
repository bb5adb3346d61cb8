"""Anthropic's messages, count_tokens and models as a strict server would answer them (docs.claude.com/en/api, 2023-06-01)."""

import json
import re

from mock_base import Refusal, Reply, sse

FIELDS = set(
    "model messages max_tokens container context_management inference_geo mcp_servers metadata output_config output_format "
    "service_tier stop_sequences stream system temperature thinking tool_choice tools top_k top_p speed cache_control".split()
)
COUNT_FIELDS = set("model messages system thinking tool_choice tools output_config output_format cache_control context_management mcp_servers speed".split())
BLOCK_FIELDS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "cache_control"},
    "document": {"type", "source", "title", "context", "citations", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control", "caller"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
}
SIGNATURE = "EqQBCgIYAhIM" + "mockAnthropicProof" * 4
NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")


def refuse(message, status=400, kind="invalid_request_error"):
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"}
    raise Refusal(status, body)


def only(fields, value, where):
    for key in value:
        if key not in fields:
            refuse(f"{where}{key}: Extra inputs are not permitted")


def blocks(content):
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def count_markers(value):
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(count_markers(inner) for key, inner in value.items() if key not in ("input", "input_schema"))
    return sum(map(count_markers, value)) if isinstance(value, list) else 0


def check_block(block, where, role):
    kind = block.get("type")
    if kind not in BLOCK_FIELDS:
        refuse(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    only(BLOCK_FIELDS[kind], block, f"{where}.{kind}.")
    if kind == "text" and not block["text"].strip():
        refuse("messages: text content blocks must be non-empty")
    if kind in ("tool_use", "thinking", "redacted_thinking") and role != "assistant":
        refuse(f"{where}: `{kind}` blocks can only be in `assistant` messages")
    if kind in ("tool_result", "image", "document") and role != "user":
        refuse(f"{where}: `{kind}` blocks can only be in `user` messages")
    if kind == "tool_use":
        if not NAME.match(block["id"]):
            refuse(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block["input"], dict):
            refuse(f"{where}.tool_use.input: Input should be a valid dictionary")
    if kind == "thinking" and block.get("signature") != SIGNATURE:
        refuse(f"{where}: Invalid `signature` in `thinking` block")
    if kind == "image" and block["source"]["type"] == "base64" and not block["source"]["media_type"].startswith("image/"):
        refuse(f"{where}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'")
    if kind == "tool_result" and not isinstance(block.get("content", ""), str):
        for inner in block["content"]:
            if inner["type"] not in ("text", "image", "document", "search_result"):
                refuse(f"{where}.tool_result.content: unexpected {inner['type']}")
            only(BLOCK_FIELDS[inner["type"]], inner, f"{where}.tool_result.content.")


def check(body, headers, fields=FIELDS):
    if "anthropic-version" not in headers:
        refuse("anthropic-version: header is required")
    only(fields, body, "")
    if fields is FIELDS and not isinstance(body.get("max_tokens"), int):
        refuse("max_tokens: Field required")
    messages = body.get("messages")
    if not messages:
        refuse("messages: at least one message is required")
    waiting = []
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        only({"role", "content"}, message, f"{where}.")
        if message["role"] == "system" and number > 0 and messages[number - 1]["role"] == "user":
            if [later["role"] for later in messages[number + 1 : number + 2]] == ["user"]:
                refuse(f"{where}: a system message must stand between a user turn and an assistant turn")
            continue
        if message["role"] not in ("user", "assistant"):
            refuse(f'messages: Unexpected role "{message["role"]}". The Messages API accepts a top-level `system` parameter.')
        content = blocks(message["content"])
        if not content:
            refuse(f"{where}: all messages must have non-empty content")
        for index, block in enumerate(content):
            check_block(block, f"{where}.content.{index}", message["role"])
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if waiting:
            missing = [id for id in waiting if id not in results]
            if missing or content[0]["type"] != "tool_result":
                refuse(f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {missing}.")
        for id in results:
            if id not in waiting:
                refuse(f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {id}.")
        seen_other = False
        for block in content:
            if block["type"] == "tool_result" and seen_other:
                refuse(f"{where}: `tool_result` blocks must come before other content")
            seen_other |= block["type"] != "tool_result"
        waiting = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(set(waiting)) != len(waiting):
            refuse(f"{where}: `tool_use` ids must be unique")
    if waiting:
        refuse(f"messages: `tool_use` ids were found without `tool_result` blocks: {waiting}")
    check_options(body, messages)


def check_options(body, messages):
    thinking = body.get("thinking") or {}
    on = thinking.get("type") in ("enabled", "adaptive")
    if thinking.get("type") == "enabled" and fields_wrong(thinking, body):
        refuse("thinking.budget_tokens: must be at least 1024 and less than `max_tokens`")
    if not 0 <= body.get("temperature", 1) <= 1:
        refuse("temperature: range: 0..1")
    if "temperature" in body and "top_p" in body:
        refuse("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if on and (body.get("temperature", 1) != 1 or "top_k" in body):
        refuse("`temperature` may only be set to 1 when thinking is enabled.")
    if thinking.get("type") == "enabled" and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        refuse("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("tool_choice") and not body.get("tools"):
        refuse("tool_choice may only be specified while providing tools.")
    if count_markers(body) > 4:
        refuse("A maximum of 4 blocks with cache_control may be provided.")
    if thinking.get("type") == "enabled":
        last = [message for message in messages if message["role"] == "assistant"][-1:]
        tail = messages[-1]["content"]
        in_loop = isinstance(tail, list) and tail[0]["type"] == "tool_result"
        if in_loop and last and blocks(last[0]["content"])[0]["type"] not in ("thinking", "redacted_thinking"):
            refuse("Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block.")
    for stop in body.get("stop_sequences") or []:
        if not stop.strip():
            refuse("stop_sequences: each stop sequence must contain non-whitespace")
    for tool in body.get("tools") or []:
        if "input_schema" in tool:
            only({"type", "name", "description", "input_schema", "cache_control", "strict", "eager_input_streaming", "input_examples", "defer_loading", "allowed_callers"}, tool, "tools.")
            if tool["input_schema"].get("type") != "object":
                refuse("tools.0.custom.input_schema.type: Field required")
    for block in blocks(body.get("system") or []):
        only({"type", "text", "cache_control", "citations"}, block, "system.")
        if not block["text"]:
            refuse("system: text content blocks must be non-empty")
    if body.get("metadata"):
        only({"user_id"}, body["metadata"], "metadata.")


def fields_wrong(thinking, body):
    budget = thinking.get("budget_tokens", 0)
    return budget < 1024 or budget >= body.get("max_tokens", 10**9)


USAGE = {
    "input_tokens": 30,
    "cache_creation_input_tokens": 6,
    "cache_read_input_tokens": 64,
    "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 20,
    "service_tier": "standard",
}
STOP = {"end": "end_turn", "tool": "tool_use", "length": "max_tokens", "stopseq": "stop_sequence", "filter": "refusal"}


def content_of(turn, thinks):
    content = []
    if turn.thought and thinks:
        content.append({"type": "thinking", "thinking": turn.thought, "signature": SIGNATURE})
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.args} for call in turn.calls]
    return content


def messages(body, turn, headers):
    check(body, headers)
    thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    sequence = "STOP" if turn.stop == "stopseq" else None
    base = {"id": "msg_01mock", "type": "message", "role": "assistant", "model": f"{body['model']}-20260101"}
    content = content_of(turn, thinks)
    if not body.get("stream"):
        end = {"stop_reason": STOP[turn.stop], "stop_sequence": sequence, "usage": USAGE}
        return Reply.json({**base, "content": content, **end}, headers={"request-id": "req_mock", "anthropic-ratelimit-requests-remaining": "41"})
    started = {**base, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**USAGE, "output_tokens": 1}}
    frames = [sse({"type": "message_start", "message": started}, "message_start")]

    def event(kind, **fields):
        frames.append(sse({"type": kind, **fields}, kind))

    for index, block in enumerate(content):
        kind = block["type"]
        if kind == "thinking":
            event("content_block_start", index=index, content_block={"type": "thinking", "thinking": "", "signature": ""})
            event("ping")
            event("content_block_delta", index=index, delta={"type": "thinking_delta", "thinking": turn.thought})
            event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": SIGNATURE})
        elif kind == "text":
            event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            for piece in turn.pieces():
                event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        else:
            event("content_block_start", index=index, content_block={**block, "input": {}})
            event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": ""})
            call = next(call for call in turn.calls if call.id == block["id"])
            for piece in call.pieces():
                event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
        if turn.midstream == "cut":
            return Reply.events(frames, cut=True)
        if turn.midstream == "error":
            event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            return Reply.events(frames)
        event("content_block_stop", index=index)
    event("message_delta", delta={"stop_reason": STOP[turn.stop], "stop_sequence": sequence}, usage={"output_tokens": 20})
    event("message_stop")
    return Reply.events(frames, linger=turn.linger)


def count(body, headers):
    check(body, headers, COUNT_FIELDS)
    return Reply.json({"input_tokens": 123})


KINDS = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error", 500: "api_error", 503: "overloaded_error"}


def error(status):
    body = {"type": "error", "error": {"type": KINDS[status], "message": f"mock says {status}"}, "request_id": "req_mock"}
    sent = {402: 400, 503: 529}.get(status, status)
    headers = {"retry-after": "3", "anthropic-ratelimit-requests-remaining": "0"} if sent == 429 else {}
    return Reply.json(body, sent, {**headers, "request-id": "req_mock"})


def models(ids):
    data = [{"type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z"} for id in ids]
    return Reply.json({"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})
