"""Three vendors of the cloud on one port: /openai, /anthropic, /gemini. `GET /_seen` gives what came, and forgets it."""

import base64
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import mock_anthropic
import mock_gemini
import mock_openai
from mock_base import Refusal, Reply, turn_for

KINDS = "text tool parallel think thinktool thinkparallel json length stopseq filter empty mid-error mid-cut linger thinktool-linger embed".split()
KINDS += [f"error-{status}" for status in (400, 401, 402, 403, 404, 429, 500, 503)]
PREFIX = {"openai": "gpt", "anthropic": "claude", "gemini": "gemini-3"}
IDS = {vendor: [f"{prefix}-{kind}" for kind in KINDS] for vendor, prefix in PREFIX.items()}
IDS["openai"] += ["ft:gpt-text:acme::7p4lURel"]
CALL_ID = {"openai": "call_mockOpenAi", "anthropic": "toolu_01mock", "gemini": "unused"}
SEEN = []


def answers_a_tool(vendor, body):
    if vendor == "openai":
        roles = [message["role"] for message in body.get("messages", [])]
        return "tool" in roles and "assistant" not in roles[len(roles) - roles[::-1].index("tool") :]
    if vendor == "anthropic":
        content = body.get("messages", [{}])[-1].get("content")
        return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
    last = []
    for content in reversed(body.get("contents") or []):
        if content.get("role") == "model":
            break
        last += content.get("parts", [])
    return any("functionResponse" in part or "function_response" in part for part in last)


def answer(vendor, method, path, query, headers, body):
    if method == "GET":
        return {"openai": mock_openai, "anthropic": mock_anthropic, "gemini": mock_gemini}[vendor].models(IDS[vendor])
    found = re.match(r"^/v1beta/models/(.+):(\w+)$", path)
    model = found.group(1) if vendor == "gemini" else body.get("model", "")
    if model not in IDS[vendor]:
        return {"openai": mock_openai, "anthropic": mock_anthropic, "gemini": mock_gemini}[vendor].error(404)
    if "error-" in model and "mid" not in model:
        return {"openai": mock_openai, "anthropic": mock_anthropic, "gemini": mock_gemini}[vendor].error(int(model[-3:]))
    if "-empty" in model:
        return Reply.events([])
    turn = turn_for(model, answers_a_tool(vendor, body), CALL_ID[vendor])
    if vendor == "openai" and path == "/v1/chat/completions":
        return mock_openai.chat(body, turn)
    if vendor == "openai" and path == "/v1/embeddings":
        return mock_openai.embeddings(body)
    if vendor == "anthropic" and path == "/v1/messages":
        return mock_anthropic.messages(body, turn, headers)
    if vendor == "anthropic" and path == "/v1/messages/count_tokens":
        return mock_anthropic.count(body, headers)
    if vendor == "gemini":
        call = found.group(2)
        if call in ("generateContent", "streamGenerateContent"):
            return mock_gemini.generate(body, model, turn, call.startswith("stream"), "alt=sse" in query)
        if call == "countTokens":
            return mock_gemini.count(body)
        if call in ("embedContent", "batchEmbedContents"):
            return mock_gemini.embed(body, call.startswith("batch"))
    return Reply.json({"error": {"message": f"no route {path}"}}, 404)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve("GET")

    def do_POST(self):
        self.serve("POST")

    def serve(self, method):
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/_seen":
            seen, SEEN[:] = list(SEEN), []
            return self.send(Reply.json(seen))
        path, _, query = unquote(self.path).partition("?")
        _, vendor, rest = path.split("/", 2)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if method == "POST":
            SEEN.append({"vendor": vendor, "path": "/" + rest, "query": query, "headers": headers, "body": base64.b64encode(raw).decode()})
        try:
            self.send(answer(vendor, method, "/" + rest, query, headers, json.loads(raw) if raw else {}))
        except Refusal as refusal:
            SEEN[-1]["refused"] = refusal.body
            self.send(Reply.json(refusal.body, refusal.status))

    def send(self, reply):
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.frames is None:
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for frame in reply.frames:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            self.wfile.flush()
        if reply.linger:
            # A vendor that has said everything and is slow to close.
            time.sleep(3)
        if reply.cut:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


def start():
    """A running server; its port is `server.server_port`."""
    import threading

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
