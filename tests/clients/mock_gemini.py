"""Google's generateContent and its neighbours as a strict server would answer them (ai.google.dev/api, v1beta)."""

import base64
import json
import re

from mock_base import Refusal, Reply, sse

FIELDS = set("contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels model serviceTier store".split())
CONFIG_FIELDS = set(
    "stopSequences responseMimeType responseSchema _responseJsonSchema responseJsonSchema responseModalities candidateCount maxOutputTokens temperature "
    "topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs enableEnhancedCivicAnswers speechConfig "
    "thinkingConfig imageConfig mediaResolution".split()
)
PART_FIELDS = set("text inlineData fileData functionCall functionResponse executableCode codeExecutionResult thought thoughtSignature videoMetadata mediaResolution partMetadata".split())
SCHEMA_FIELDS = set("type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum".split())
SIGNATURE = base64.b64encode(b"mock gemini proof" * 3).decode()
SKIP = {base64.b64encode(b"skip_thought_signature_validator").decode(), "skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}


def camel(name):
    return name if name.startswith("_") else re.sub(r"_(\w)", lambda found: found.group(1).upper(), name)


def normal(value, free=False):
    """Google takes snake_case too."""
    if isinstance(value, dict):
        return {key if free else camel(key): normal(inner, free or camel(key) in ("args", "response", "parametersJsonSchema", "responseJsonSchema", "_responseJsonSchema", "properties", "schema")) for key, inner in value.items()}
    return [normal(inner, free) for inner in value] if isinstance(value, list) else value


def refuse(message, status=400, kind="INVALID_ARGUMENT"):
    raise Refusal(status, {"error": {"code": status, "message": message, "status": kind}})


def only(fields, value, where):
    for key in value:
        if key not in fields:
            refuse(f'Invalid JSON payload received. Unknown name "{key}" at \'{where}\': Cannot find field.')


def check_schema(schema, where):
    only(SCHEMA_FIELDS, schema, where)
    if not isinstance(schema.get("type", ""), str):
        refuse(f"Proto field is not repeating, cannot start list at '{where}.type'.")
    for name, inner in (schema.get("properties") or {}).items():
        check_schema(inner, f"{where}.properties[{name}]")
    if schema.get("items"):
        check_schema(schema["items"], f"{where}.items")
    for inner in schema.get("anyOf") or []:
        check_schema(inner, f"{where}.anyOf")
    for name in schema.get("required") or []:
        if name not in (schema.get("properties") or {}):
            refuse(f"{where}.required: property is not defined")


def check(body, model):
    only(FIELDS, body, "")
    contents = body.get("contents")
    if not contents:
        refuse("* GenerateContentRequest.contents: contents is not specified")
    previous_calls = 0
    for number, content in enumerate(contents):
        only({"role", "parts"}, content, f"contents[{number}]")
        if content.get("role", "user") not in ("user", "model"):
            refuse("Please use a valid role: user, model.")
        if not content.get("parts"):
            refuse(f"* GenerateContentRequest.contents[{number}].parts: contents.parts must not be empty.")
        responses = [part for part in content["parts"] if "functionResponse" in part]
        calls = [part for part in content["parts"] if "functionCall" in part]
        if responses and len(responses) != previous_calls or previous_calls and not responses and content.get("role") != "model":
            refuse("Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.")
        follows_model = number > 0 and contents[number - 1].get("role") == "model" and content.get("role") == "model"
        previous_calls = len(calls) + (previous_calls if follows_model else 0)
        if calls and content.get("role") != "model":
            refuse("Please ensure that function call turn comes from the model.")
        if calls and number == 0:
            refuse("Please ensure that function call turn comes immediately after a user turn or after a function response turn.")
        for part in content["parts"]:
            check_part(part, f"contents[{number}].parts")
        if calls and "think" in model and calls[0].get("thoughtSignature") not in (SIGNATURE, *SKIP) and not any("text" in part for later in contents[number + 1 :] if later.get("role") == "user" for part in later["parts"]):
            refuse(f"Function call is missing a thought_signature in functionCall parts. contents[{number}]")
    if body.get("systemInstruction"):
        only({"role", "parts"}, body["systemInstruction"], "systemInstruction")
    check_options(body)


def check_part(part, where):
    only(PART_FIELDS, part, where)
    if not set(part) & {"text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult"}:
        refuse(f"* {where}.data: required oneof field 'data' must have one initialized field")
    if "functionResponse" in part:
        only({"id", "name", "response", "willContinue", "scheduling", "parts"}, part["functionResponse"], f"{where}.functionResponse")
        if not part["functionResponse"].get("name"):
            refuse("* GenerateContentRequest.contents.parts.function_response.name: Name cannot be empty.")
        if not isinstance(part["functionResponse"].get("response"), dict):
            refuse("Invalid value at function_response.response (type.googleapis.com/google.protobuf.Struct)")
    if "functionCall" in part:
        only({"id", "name", "args"}, part["functionCall"], f"{where}.functionCall")
    if part.get("thoughtSignature") not in (None, SIGNATURE, *SKIP):
        refuse("Corrupted thought signature.")
    if "inlineData" in part:
        only({"mimeType", "data", "displayName"}, part["inlineData"], f"{where}.inlineData")


def check_options(body):
    config = body.get("generationConfig") or {}
    only(CONFIG_FIELDS, config, "generation_config")
    if config.get("responseSchema"):
        check_schema(config["responseSchema"], "generation_config.response_schema")
    if (config.get("responseSchema") or config.get("responseJsonSchema")) and config.get("responseMimeType") != "application/json":
        refuse("Function calling / schema requires response mime type application/json")
    if len(config.get("stopSequences") or []) > 5:
        refuse("stop_sequences: at most 5")
    if config.get("thinkingConfig"):
        only({"includeThoughts", "thinkingBudget", "thinkingLevel"}, config["thinkingConfig"], "thinking_config")
        if "thinkingBudget" in config["thinkingConfig"] and "thinkingLevel" in config["thinkingConfig"]:
            refuse("You can only set only one of thinking budget and thinking level.")
    for tool in body.get("tools") or []:
        for function in tool.get("functionDeclarations") or []:
            only({"name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior"}, function, "tools[0].function_declarations")
            if function.get("parameters"):
                check_schema(function["parameters"], "tools[0].function_declarations[0].parameters")
                if function["parameters"].get("type", "").upper() == "OBJECT" and function["parameters"].get("properties") == {}:
                    refuse("parameters.properties: should be non-empty for OBJECT type")
    choice = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if choice:
        only({"mode", "allowedFunctionNames"}, choice, "tool_config")
        if choice.get("allowedFunctionNames") and choice.get("mode") not in ("ANY", "VALIDATED"):
            refuse("allowed_function_names is only valid in mode ANY")


USAGE = {"promptTokenCount": 100, "cachedContentTokenCount": 64, "candidatesTokenCount": 12, "thoughtsTokenCount": 8, "totalTokenCount": 120, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}]}
FINISH = {"end": "STOP", "tool": "STOP", "length": "MAX_TOKENS", "stopseq": "STOP", "filter": "SAFETY"}


def parts_of(turn, shows_thoughts):
    parts = [{"text": turn.thought, "thought": True}] if turn.thought and shows_thoughts else []
    for index, call in enumerate(turn.calls):
        part = {"functionCall": {"name": call.name, "args": call.args}}
        if turn.thought and index == 0:
            part["thoughtSignature"] = SIGNATURE
        parts.append(part)
    return parts


def generate(body, model, turn, stream, is_sse):
    body = normal(body)
    check(body, model)
    shows = ((body.get("generationConfig") or {}).get("thinkingConfig") or {}).get("includeThoughts")
    tail = {"usageMetadata": USAGE, "modelVersion": f"{model}-001", "responseId": "respmock"}

    def chunk(parts, finish=None):
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
        return {"candidates": [{**candidate, "finishReason": finish} if finish else candidate], **tail}

    if not stream:
        parts = parts_of(turn, shows) + ([{"text": turn.text}] if turn.text else [])
        return Reply.json(chunk(parts, FINISH[turn.stop]))
    chunks = [chunk([part]) for part in parts_of(turn, shows)] + [chunk([{"text": piece}]) for piece in turn.pieces()]
    if turn.midstream != "cut":
        chunks.append(chunk([{"text": ""}], FINISH[turn.stop]))
    if turn.midstream == "error":
        chunks[-1] = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    if not is_sse:
        return Reply.json(chunks)
    return Reply.events([sse(item).replace(b"\n\n", b"\r\n\r\n") for item in chunks], cut=turn.midstream == "cut", linger=turn.linger)


def count(body):
    body = normal(body)
    only({"contents", "generateContentRequest"}, body, "")
    inner = body.get("generateContentRequest")
    if inner:
        only(FIELDS, inner, "generate_content_request")
        if not inner.get("model", "").startswith("models/"):
            refuse("* CountTokensRequest.generate_content_request.model: unexpected model name format")
    elif not body.get("contents"):
        refuse("* CountTokensRequest.contents: contents is not specified")
    return Reply.json({"totalTokens": 123, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 123}]})


def embed(body, batch):
    body = normal(body)
    requests = body["requests"] if batch else [body]
    for request in requests:
        only({"model", "content", "taskType", "title", "outputDimensionality", "embedContentConfig"}, request, "requests")
        if batch and not request.get("model", "").startswith("models/"):
            refuse("* BatchEmbedContentsRequest.requests[0].model: unexpected model name format")
    vectors = [{"values": [0.25 * (index + 1), -0.5, 1.0]} for index, _ in enumerate(requests)]
    return Reply.json({"embeddings": vectors} if batch else {"embedding": vectors[0]})


STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "RESOURCE_EXHAUSTED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


def error(status):
    sent = 429 if status == 402 else status
    body = {"error": {"code": sent, "message": f"mock says {status}", "status": STATUS[status]}}
    if status == 401:
        sent = 400
        body = {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}}
    if sent == 429:
        body["error"]["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}]
    return Reply.json(body, sent)


def models(ids):
    methods = ["generateContent", "countTokens"]
    data = [{"name": f"models/{id}", "version": "001", "displayName": id, "inputTokenLimit": 1048576, "outputTokenLimit": 65536, "supportedGenerationMethods": ["embedContent"] if "embed" in id else methods} for id in ids]
    return Reply.json({"models": data})
