#!/usr/bin/env python3
"""Local only means local: no byte leaves the machine, whatever is asked and whatever runs in the background.

The gateway runs in a network namespace of its own, which has a dummy interface with a default route and a resolver
behind it: whatever would leave the machine is sent there, and counted. Cloud keys are set, every route and every
background job is driven. With the mode on nothing may be sent; with it off something must be, or the counter is blind.
"""

import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import Gateway, wait_for

INSIDE = "BIFROST_LEAK_INSIDE"
INTERFACE = "far0"
# Of the blocks that RFC 5737 keeps for documentation: nobody is there.
OWN, ROUTER, RESOLVER = "192.0.2.2", "192.0.2.1", "198.51.100.53"
KEYS = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY",
        "GROQ_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "XAI_API_KEY"]


def shell(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def make_network():
    """The way out: everything that is not loopback goes there, and nobody answers."""
    # Some kernels have no dummy; a cable whose other end nobody holds is as good.
    if shell("ip", "link", "add", INTERFACE, "type", "dummy").returncode != 0:
        for command in (["ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "end0"],
                        ["ip", "link", "set", "end0", "up"]):
            done = shell(*command)
            if done.returncode != 0:
                return f"{' '.join(command)}: {done.stderr.strip()}"
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{OWN}/24", "dev", INTERFACE],
        ["ip", "link", "set", INTERFACE, "up"],
        # Without it the kernel asks for the router's address, and would send no more than that.
        ["ip", "neigh", "add", ROUTER, "lladdr", "02:00:00:00:00:01", "dev", INTERFACE, "nud", "permanent"],
        ["ip", "route", "add", "default", "via", ROUTER],
    ):
        done = shell(*command)
        if done.returncode != 0:
            return f"{' '.join(command)}: {done.stderr.strip()}"
    resolver = tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False)
    resolver.write(f"nameserver {RESOLVER}\noptions timeout:1 attempts:1\n")
    resolver.close()
    done = shell("mount", "--bind", resolver.name, "/etc/resolv.conf")
    return "" if done.returncode == 0 else f"mount: {done.stderr.strip()}"


class Watch:
    """Every frame that goes out on the dummy interface, but for what the kernel says of its own accord (IPv6 neighbours)."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self.socket.bind((INTERFACE, 0))
        self.socket.settimeout(0.2)
        self.frames = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while not self.stopped.is_set():
            try:
                frame = self.socket.recv(65535)
            except TimeoutError:
                continue
            if frame[12:14] == b"\x86\xdd" and frame[20:21] in (b"\x3a", b"\x00"):
                continue
            self.frames.append(frame)

    def show(self):
        """Protocol and address of each frame."""
        shown = set()
        for frame in self.frames:
            if frame[12:14] == b"\x08\x00":
                header = (frame[14] & 15) * 4
                port = int.from_bytes(frame[14 + header + 2:14 + header + 4], "big")
                shown.add(f"{ {6: 'tcp', 17: 'udp'}.get(frame[23], frame[23]) } {socket.inet_ntoa(frame[30:34])}:{port}")
            else:
                shown.add(f"ethertype {frame[12:14].hex()}")
        return sorted(shown)

    def prove_that_it_sees(self):
        """A packet of our own must be counted."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"probe", ("203.0.113.9", 9))
        wait_for("the watch sees a packet", lambda: self.frames, patience=5)
        self.frames.clear()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.socket.close()


class LocalServer(http.server.ThreadingHTTPServer):
    """As much of a model server as the gateway needs to go on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, content_type, body):
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            if self.path == "/v1/models":
                body = {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "local"}]}
            else:
                body = {"status": "healthy", "model_loaded": True}
            self.reply("application/json", json.dumps(body).encode())

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            frame = {"id": "c", "created": 1, "model": "tiny"}
            if "input" in asked:
                data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
                self.reply("application/json", json.dumps({"object": "list", "model": "tiny", "data": data, "usage": usage}).encode())
            elif asked.get("stream"):
                choices = [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
                chunk = {**frame, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
                self.reply("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
            else:
                choices = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
                self.reply("application/json", json.dumps({**frame, "object": "chat.completion", "choices": choices, "usage": usage}).encode())

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 11434), self.Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


def drive(gateway):
    """Every route with models of every provider, and every command; what is answered does not matter here."""
    models = ["mlx-local/tiny", "openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "gpt-4o",
              "openrouter/openai/gpt-4o", "coding", "research", "review", "pre-commit", "auto", "most-capable", "nobody/nothing"]
    said = [{"role": "user", "content": "Hello"}]
    contents = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    asked = []
    for model in models:
        asked += [
            ("POST", "/v1/chat/completions", {"model": model, "messages": said}),
            ("POST", "/v1/chat/completions", {"model": model, "messages": said, "stream": True}),
            ("POST", "/v1/chat/completions", {"model": model, "messages": said, "fallbacks": ["openai/gpt-4o"]}),
            ("POST", "/v1/messages", {"model": model, "messages": said, "max_tokens": 9}),
            ("POST", "/v1/messages/count_tokens", {"model": model, "messages": said}),
            ("POST", "/v1/embeddings", {"model": model, "input": "Hello"}),
            ("POST", f"/v1beta/models/{model}:generateContent", contents),
            ("POST", f"/v1beta/models/{model}:streamGenerateContent?alt=sse", contents),
            ("POST", f"/v1beta/models/{model}:countTokens", contents),
            ("POST", f"/v1beta/models/{model}:embedContent", {"content": contents["contents"][0]}),
            ("GET", f"/v1/models/{model}", None),
        ]
    asked += [("GET", path, None) for path in (
        "/v1/models", "/v1beta/models", "/openai/v1/models", "/anthropic/v1/models", "/genai/v1beta/models", "/health",
        "/ready", "/metrics")]
    headers = {"x-bifrost-fallbacks": "openai/gpt-4o,anthropic/claude-sonnet-4-5", "x-bifrost-timeout-ms": "1500"}
    workers = []
    for method, path, body in asked:
        def one(method=method, path=path, body=body):
            try:
                gateway.ask(method, path, body, headers, timeout=4)
            except OSError:
                pass
        workers.append(threading.Thread(target=one, daemon=True))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    for command in (["listmodels"], ["resolve", "coding"], ["resolve", "openai/gpt-4o"], ["config", "check", "--offline"],
                    ["config", "show"], ["health"], ["local", "status"], ["chat", "-m", "openai/gpt-4o", "Hello"]):
        try:
            gateway.command(*command)
        except subprocess.TimeoutExpired:
            pass
    owner = {"authorization": f"Bearer {next(gateway.home.rglob('admin-token')).read_text().strip()}"}
    gateway.ask("POST", "/admin/reload", None, owner)
    gateway.ask("GET", "/admin/status", None, owner)


def frames_sent(variables, arguments, until):
    """What goes out while a gateway is started and driven; ends early once `until` of it has been seen."""
    watch = Watch()
    try:
        watch.prove_that_it_sees()
        keys = {name: "sk-this-key-must-not-leave" for name in KEYS}
        gateway = Gateway("serve", *arguments, variables={**keys, **variables})
        try:
            drive(gateway)
            if not until(watch):
                # The background jobs of the first seconds run by the clock.
                end = time.monotonic() + 12
                while time.monotonic() < end and not until(watch):
                    time.sleep(0.2)
        finally:
            gateway.stop()
        return watch.show()
    finally:
        watch.stop()


def frames_after_the_switch():
    """What goes out after the mode was switched on at run time, once what was under way has died down."""
    watch = Watch()
    try:
        gateway = Gateway("serve", variables={name: "sk-this-key-must-not-leave" for name in KEYS})
        try:
            drive(gateway)
            assert watch.frames, "nothing left the machine even before"
            owner = {"authorization": f"Bearer {next(gateway.home.rglob('admin-token')).read_text().strip()}"}
            status, _, body = gateway.ask("PUT", "/admin/local", {"only": True}, owner)
            assert status == 200, (status, body)
            # The system's resolver may be asking still; nothing tells when it gives up.
            count = -1
            while count != len(watch.frames):
                count = len(watch.frames)
                time.sleep(3)
            watch.frames.clear()
            drive(gateway)
            time.sleep(5)
        finally:
            gateway.stop()
        return watch.show()
    finally:
        watch.stop()


def inside():
    trouble = make_network()
    if trouble:
        print(f"skipped: no network of our own: {trouble}")
        return 0
    LocalServer()
    failed = 0
    ways = {
        "the flag": ({}, ["--local"]),
        "the environment": ({"BIFROST_LOCAL_ONLY": "1"}, []),
    }
    for name, (variables, arguments) in ways.items():
        sent = frames_sent(variables, arguments, until=lambda watch: bool(watch.frames))
        failed += bool(sent)
        print(f"{'FAILED ' if sent else 'ok     '} local-only by {name}: nothing leaves the machine {sent or ''}")
    sent = frames_after_the_switch()
    failed += bool(sent)
    print(f"{'FAILED ' if sent else 'ok     '} local-only by the run-time switch: nothing leaves the machine {sent or ''}")
    sent = frames_sent({}, [], until=lambda watch: bool(watch.frames))
    failed += not sent
    print(f"{'ok     ' if sent else 'FAILED '} without it the same is seen to leave: {', '.join(sent[:6])}")
    print(f"leak: {4 - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    if os.environ.get(INSIDE):
        return inside()
    for tool in ("unshare", "ip", "mount"):
        if shell("which", tool).returncode != 0:
            print(f"skipped: no `{tool}` on this machine")
            return 0
    apart = ["unshare", "--net", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    if shell(*apart, "true").returncode != 0:
        print("skipped: this machine gives no network namespaces")
        return 0
    return subprocess.run([*apart, sys.executable, str(Path(__file__).resolve())], env={**os.environ, INSIDE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
