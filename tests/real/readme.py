#!/usr/bin/env python3
"""Runs every `sh` block of README.md as a newcomer would, in order, with the real vllm-mlx behind the gateway.

BIFROST_TINY_MODEL  the folder with `serve.sh`; `vllm-mlx` then stands for it. Without it all is skipped
BIFROST_BIN         the program under test; else target/release/bifrost
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# They run until they are stopped: who must answer before the next block is run.
SERVERS = {
    "vllm-mlx serve": "http://127.0.0.1:11434/v1/models",
    "bifrost serve": "http://localhost:30080/ready",
}
# These build, test and measure; whoever runs this has run them, or does.
ELSEWHERE = {"cargo run --release", "cargo test", "cargo bench --bench gateway -- --quick"}


def blocks():
    """The `sh` blocks of the README, stripped."""
    found = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    return [block.strip() for block in found]


def wait_for(url, process, limit=120):
    """Until `url` answers 200."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"FAILED  it ended with {process.returncode} before {url} answered")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"FAILED  {url} did not answer within {limit} s")


def main():
    tiny = os.environ.get("BIFROST_TINY_MODEL")
    if not tiny:
        print("skipped: BIFROST_TINY_MODEL is not set")
        print("0 passed, 0 failed, 1 skipped")
        return
    binary = pathlib.Path(os.environ.get("BIFROST_BIN", ROOT / "target/release/bifrost")).resolve()
    servers, passed = [], 0
    with tempfile.TemporaryDirectory() as home:
        tools = pathlib.Path(home, "bin")
        tools.mkdir()
        (tools / "bifrost").symlink_to(binary)
        (tools / "vllm-mlx").write_text(f'#!/bin/sh\nONE=1 exec bash "{tiny}/serve.sh"\n')
        (tools / "vllm-mlx").chmod(0o755)
        environment = {name: os.environ[name] for name in ("LANG", "TINY_DIR") if name in os.environ}
        environment |= {"HOME": home, "MODEL": "tiny", "PATH": f"{tools}:{os.environ['PATH']}"}
        environment.setdefault("TINY_DIR", os.path.expanduser("~/.cache/tiny-vllm-mlx"))
        try:
            for block in blocks():
                if block in ELSEWHERE:
                    continue
                server = next((url for start, url in SERVERS.items() if block.startswith(start)), None)
                if server:
                    process = subprocess.Popen(
                        ["bash", "-ec", f"exec {block}"], env=environment, cwd=ROOT, start_new_session=True,
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    servers.append(process)
                    wait_for(server, process)
                    passed += 1
                    continue
                for command in re.split(r"\n(?! )", block):
                    ran = subprocess.run(
                        ["bash", "-ec", command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
                    answer = ran.stdout + ran.stderr
                    if ran.returncode != 0 or ("curl" in command and '"error"' in ran.stdout):
                        raise SystemExit(f"FAILED  {command}\nexit {ran.returncode}\n{answer}")
                    if "curl -si" in command and "x-bifrost-provider: mlx-local" not in answer:
                        raise SystemExit(f"FAILED  {command}\nno header tells who answered\n{answer}")
                    print(f"ok      {command.splitlines()[0]}")
                    passed += 1
        finally:
            for process in reversed(servers):
                os.killpg(process.pid, signal.SIGTERM)
            for process in servers:
                process.wait(timeout=30)
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
