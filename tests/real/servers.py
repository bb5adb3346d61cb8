"""The two programs of the real tests: the local model server and Bifrost, each started and ended in good order."""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL_PORT = 11434
PATIENCE = 60.0


def wait_for(what, check, patience=PATIENCE, pause=0.05):
    """Asks `check` until it gives something true; a bounded wait for what tells nobody when it happens."""
    end = time.monotonic() + patience
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {patience:.0f} s")
        time.sleep(pause)


def request(port, method, path, body=None, headers=None, timeout=PATIENCE):
    """One HTTP exchange: status, headers (lower case), body as bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class Process:
    """A program whose output is kept; ended with SIGTERM, and with SIGKILL only if that does not help."""

    def __init__(self, arguments, environment, cwd=ROOT):
        self.lines = []
        self.news = threading.Condition()
        self.child = subprocess.Popen(
            arguments, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.child.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.lines.append(None)
            self.news.notify_all()

    def wait_line(self, text, patience=PATIENCE):
        """The first line that holds `text`."""
        def found():
            return [line for line in self.lines if line is None or text in line]
        with self.news:
            if not self.news.wait_for(found, patience) or found()[0] is None:
                raise AssertionError(f"no line with {text!r}:\n{self.log()}")
            return found()[0]

    def log(self):
        return "\n".join(line for line in self.lines[-40:] if line is not None)

    def stop(self):
        """Ends it; the exit code."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
        code = self.child.wait(15)
        self.reader.join(5)
        return code


class ModelServer(Process):
    """The real vllm-mlx with the tiny model, on the port where Bifrost looks for it."""

    def __init__(self, version):
        serve = Path(os.environ["BIFROST_TINY_MODEL"]) / "serve.sh"
        models = os.environ.get("TINY_DIR", str(Path.home() / ".cache/tiny-vllm-mlx"))
        environment = {**os.environ, "VLLM_MLX": version, "PORT": str(LOCAL_PORT), "TINY_DIR": models}
        subprocess.run([str(serve), "--install-only"], env=environment, check=True, stdout=subprocess.DEVNULL)
        # It keeps prompts in the home folder, and 0.3.0 answers a prompt that it has kept with less than the first time.
        self.folder = tempfile.TemporaryDirectory(prefix="vllm-mlx-", ignore_cleanup_errors=True)
        super().__init__([str(serve), "--disable-prefix-cache"], {**environment, "HOME": self.folder.name})
        self.version = version

    def wait_ready(self):
        """Waits until it lists a model."""
        def listed():
            if self.child.poll() is not None:
                raise AssertionError(f"the model server ended:\n{self.log()}")
            try:
                status, _, body = request(LOCAL_PORT, "GET", "/v1/models", timeout=5)
            except OSError:
                return False
            return status == 200 and json.loads(body)["data"]
        wait_for("the model server lists a model", listed, patience=180, pause=0.2)
        return self

    def stop(self):
        code = super().stop()
        self.folder.cleanup()
        return code

    def running(self):
        """How many chat requests it is working on, by its own count."""
        status, _, body = request(LOCAL_PORT, "GET", "/v1/status")
        assert status == 200, body
        counts = json.loads(body)
        if "num_running" in counts:
            return counts["num_running"] + counts["num_waiting"]
        # With several models the status holds no count; the metrics do.
        _, _, body = request(LOCAL_PORT, "GET", "/metrics")
        for line in body.decode().splitlines():
            if line.startswith("vllm_mlx_http_requests_in_flight{") and 'path="/v1/chat/completions"' in line:
                return int(float(line.rsplit(" ", 1)[1]))
        return 0


class Gateway(Process):
    """Bifrost as a user without any configuration has it, on a free port."""

    def __init__(self, *arguments, variables=None, home=None):
        self.folder = tempfile.TemporaryDirectory(prefix="bifrost-real-")
        self.home = Path(home or self.folder.name)
        self.binary = binary()
        environment = {
            "HOME": str(self.home), "PATH": "/usr/bin:/bin", "BIFROST_PORT": "0", "NO_COLOR": "1", **(variables or {})}
        self.environment = environment
        super().__init__([self.binary, *arguments], environment, cwd=self.home)
        line = self.wait_line("listening on http://127.0.0.1:")
        self.port = int(line.split("listening on http://127.0.0.1:", 1)[1].split()[0].strip('/,"'))
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE):
        """Status, headers and the body as JSON (or text, where it is none)."""
        status, headers, raw = request(self.port, method, path, body, headers, timeout)
        try:
            return status, headers, json.loads(raw)
        except ValueError:
            return status, headers, raw.decode(errors="replace")

    def stream(self, path, body, headers=None):
        """The data of each event of a stream, as JSON where it is JSON."""
        status, headers, raw = request(self.port, "POST", path, body, headers)
        assert status == 200, (status, raw[:500])
        assert headers["content-type"].startswith("text/event-stream"), headers
        events = []
        for line in raw.decode().splitlines():
            if line.startswith("data: "):
                data = line[len("data: "):]
                events.append(data if data == "[DONE]" else json.loads(data))
        return events

    def command(self, *arguments, stdin=None):
        """Another command of the same user's: exit code and output."""
        environment = {**self.environment, "BIFROST_PORT": str(self.port)}
        done = subprocess.run([self.binary, *arguments], env=environment, cwd=self.home, input=stdin, text=True,
                              stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True, timeout=PATIENCE)
        return done.returncode, done.stdout, done.stderr

    def stop(self):
        code = super().stop()
        self.folder.cleanup()
        return code


def binary():
    """The program under test: `$BIFROST_BIN`, else the newest that cargo built."""
    if "BIFROST_BIN" in os.environ:
        return str(Path(os.environ["BIFROST_BIN"]).resolve())
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for path in (target / "release/bifrost", target / "debug/bifrost") if path.exists()]
    assert built, "build Bifrost first: cargo build"
    return str(max(built, key=lambda path: path.stat().st_mtime))
