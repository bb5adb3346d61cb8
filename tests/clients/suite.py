"""Every check, in the interpreter that has the SDKs."""

import os
import subprocess
import sys
from pathlib import Path

import check_anthropic
import check_genai
import check_openai
import check_wire
import harness
import mock


def node(gateway):
    """The SDKs for Node say themselves what failed."""
    command = ["node", str(Path(__file__).with_name("check_node.mjs")), gateway.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def main():
    tally = harness.Tally(" ".join(sys.argv[1:]))
    vendors = mock.start()
    gateway = harness.Gateway(vendors.server_port)
    try:
        for module in (check_openai, check_anthropic, check_genai):
            name = module.__name__.removeprefix("check_")
            for vendor in harness.VENDORS:
                for check in module.MATRIX:
                    tally.run(f"{name} to {vendor}: {check.__name__.replace('_', ' ')}", check, gateway, vendor)
            for check in module.ALONE:
                tally.run(f"{name}: {check.__name__.replace('_', ' ')}", check, gateway)
        if os.environ.get("CLIENTS_NPM"):
            tally.run("node", node, gateway)
        for check in check_wire.ALL:
            tally.run(f"wire: {check.__name__.replace('_', ' ')}", check, gateway)
    finally:
        gateway.stop()
    bare = harness.Gateway(vendors.server_port, keys=False)
    try:
        for check in check_wire.WITHOUT_KEYS:
            tally.run(f"without keys: {check.__name__.replace('_', ' ')}", check, bare)
    finally:
        bare.stop()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
