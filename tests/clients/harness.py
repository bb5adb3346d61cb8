"""The gateway under test between the official clients and the mock vendors, and the count of what held."""

import base64
import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path

import mock

ROOT = Path(__file__).resolve().parents[2]
VENDORS = {"openai": "gpt", "anthropic": "claude", "gemini": "gemini-3"}
KEYS = {"openai": "sk-gateway-openai", "anthropic": "sk-ant-gateway", "gemini": "AIza-gateway"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def binary():
    """The program under test: `BIFROST_BIN`, else the newest in target/."""
    named = os.environ.get("BIFROST_BIN")
    built = [ROOT / "target" / kind / "bifrost" for kind in ("debug", "release")]
    found = sorted((path for path in built if path.exists()), key=lambda path: path.stat().st_mtime)
    return named or str(found[-1])


class Gateway:
    """A running Bifrost whose three vendors are the mocks; without `keys` it has none of its own."""

    def __init__(self, mock_port, keys=True, extra=""):
        self.home = tempfile.TemporaryDirectory()
        config = ""
        for vendor in VENDORS:
            config += f'[providers.{vendor}]\nbase_url = "http://127.0.0.1:{mock_port}/{vendor}"\n'
            config += f'key = "{KEYS[vendor]}"\n' if keys else ""
        (Path(self.home.name) / "bifrost.toml").write_text(config + extra)
        environment = {"PATH": "/usr/bin:/bin", "HOME": self.home.name, "BIFROST_PORT": "0", "NO_COLOR": "1"}
        self.child = subprocess.Popen(
            [binary(), "serve", "--config", f"{self.home.name}/bifrost.toml"], env=environment, cwd=self.home.name,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        for line in self.child.stdout:
            self.lines.append(line)
            if "listening on " in line:
                self.url = "http://127.0.0.1:" + line.split("http://127.0.0.1:")[1].split(" ")[0].strip('," \n')
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=lambda: self.lines.extend(self.child.stdout), daemon=True).start()
        self.port = int(self.url.rsplit(":", 1)[1])
        if keys:
            self.wait_for_models()

    def wait_for_models(self):
        """The lists are fetched in the background; the last of them tells that they came."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            ids = [model["id"] for model in json.loads(self.request("GET", "/v1/models")[2])["data"]]
            if all(any(id.startswith(f"{vendor}/") for id in ids) for vendor in VENDORS):
                return
            time.sleep(0.05)
        raise AssertionError(f"the models did not come: {ids}")

    def request(self, method, path, body=None, headers=None):
        """A raw exchange: status, headers (lower case), bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})} if raw is not None else headers or {}
        connection.request(method, path, raw, sent)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        data = answer.read()
        connection.close()
        return answer.status, found, data

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(15)
        self.home.cleanup()


def seen():
    """What the vendors got since the last question."""
    taken, mock.SEEN[:] = list(mock.SEEN), []
    for entry in taken:
        entry["raw"] = base64.b64decode(entry["body"])
        entry["json"] = json.loads(entry["raw"]) if entry["raw"] else None
    return taken


def equal(found, wanted, what=""):
    assert found == wanted, f"{what}: {found!r}, not {wanted!r}"


def contains(text, wanted):
    assert wanted in str(text), f"{wanted!r} is not in {text!r}"


class Tally:
    """Counts, and says what failed."""

    def __init__(self, only=""):
        self.only = only
        self.passed = self.failed = 0

    def run(self, name, check, *arguments):
        if self.only not in name:
            return
        mock.SEEN.clear()
        try:
            check(*arguments)
        except BaseException as error:  # one failure must not hide the next
            if isinstance(error, KeyboardInterrupt):
                raise
            self.failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {str(error)[:1500]}")
            if os.environ.get("TRACE"):
                traceback.print_exc()
        else:
            self.passed += 1
