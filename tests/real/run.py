#!/usr/bin/env python3
"""Bifrost in front of the real vllm-mlx with a tiny model: `tests/real/run.py [VERSION...]` (0.6.0 and 0.3.0).

BIFROST_TINY_MODEL  the folder with `serve.sh`, which starts the server on 127.0.0.1:11434; without it all is skipped
BIFROST_BIN         the program under test; else the newest in target/
BIFROST_SDKS=1      the official SDKs too (`sdk.py`), in a virtual environment below target/
"""

import os
import subprocess
import sys
import time
import traceback

import checks
from servers import LOCAL_PORT, ROOT, Gateway, ModelServer, request


class Tally:
    """Counts, and says each result in a line."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def run(self, check, gateway, server):
        name = check.__name__.replace("_", " ")
        begun = time.monotonic()
        try:
            skipped = check(gateway, server)
        except Exception as error:  # one failure must not hide the next
            self.failed += 1
            print(f"FAILED  {name}: {error}")
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            return
        if skipped:
            self.skipped += 1
            print(f"skipped {name}: {skipped}")
        else:
            self.passed += 1
            print(f"ok      {name} ({time.monotonic() - begun:.1f} s)")


def official_sdks(gateway, server):
    """The official SDKs parse what Bifrost answers."""
    folder = ROOT / "target/sdk-venv"
    python = folder / "bin/python"
    if not (folder / ".done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        packages = ["openai", "anthropic", "google-genai"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        (folder / ".done").touch()
    done = subprocess.run([str(python), str(ROOT / "tests/real/sdk.py"), gateway.url],
                          capture_output=True, text=True, timeout=120)
    print("".join(f"        {line}\n" for line in done.stdout.splitlines()), end="")
    assert done.returncode == 0, done.stderr[-2000:]


def port_is_taken():
    try:
        request(LOCAL_PORT, "GET", "/health", timeout=2)
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def with_version(version, tally):
    print(f"== vllm-mlx {version}")
    gateway = Gateway("serve", "--local", variables={"OPENAI_API_KEY": "sk-never-used", "ANTHROPIC_API_KEY": "never-used"})
    server = None
    try:
        tally.run(checks.it_says_503_while_the_server_is_down, gateway, None)
        server = ModelServer(version).wait_ready()
        tally.run(checks.it_recovers_by_itself, gateway, server)
        for check in checks.UP:
            tally.run(check, gateway, server)
        if os.environ.get("BIFROST_SDKS"):
            tally.run(official_sdks, gateway, server)
        server.stop()
        tally.run(checks.it_says_503_while_the_server_is_down, gateway, server)
        server = ModelServer(version).wait_ready()
        tally.run(checks.it_recovers_by_itself, gateway, server)
    finally:
        if server:
            server.stop()
        code = gateway.stop()
    if code != 0:
        tally.failed += 1
        print(f"FAILED  SIGTERM ends the gateway with 0: {code}\n{gateway.log()}")
    if tally.failed:
        print(f"the gateway's last lines:\n{gateway.log()}")


def main():
    if not os.environ.get("BIFROST_TINY_MODEL"):
        print("skipped: BIFROST_TINY_MODEL does not name the folder of the tiny model's serve.sh")
        return 0
    if port_is_taken():
        print(f"FAILED: something listens on 127.0.0.1:{LOCAL_PORT}; end it, the tests start a server there")
        return 1
    tally = Tally()
    for version in sys.argv[1:] or ["0.6.0", "0.3.0"]:
        with_version(version, tally)
    print(f"real: {tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
