#!/usr/bin/env python3
"""The official SDKs against Bifrost in front of strict mock vendors: `tests/clients/run.py [WORDS OF A CHECK'S NAME]`.

BIFROST_BIN  the program under test; else the newest in target/
The SDKs are installed into target/clients-venv and target/clients-npm; where that cannot be done, all is skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
PYTHON_SDKS = ["openai", "anthropic", "google-genai"]
NODE_SDKS = ["openai", "@anthropic-ai/sdk", "@google/genai"]


def python():
    """The interpreter that has the SDKs."""
    folder = TARGET / "clients-venv"
    if not (folder / ".done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PYTHON_SDKS], check=True)
        (folder / ".done").touch()
    return folder / "bin/python"


def node():
    """The folder that has the SDKs of Node."""
    folder = TARGET / "clients-npm"
    if not (folder / ".done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_SDKS], cwd=folder, check=True)
        (folder / ".done").touch()
    return folder


def main():
    try:
        interpreter = python()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"skipped: the SDKs cannot be installed: {error}")
        return 0
    environment = dict(os.environ)
    try:
        if shutil.which("npm"):
            environment["CLIENTS_NPM"] = str(node())
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"skipped: the SDKs for Node cannot be installed: {error}")
    return subprocess.run([str(interpreter), str(HERE / "suite.py"), *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
