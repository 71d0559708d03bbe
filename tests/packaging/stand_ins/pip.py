"""Stands in for pip: notes how it was called, and fails or waits where a test says so.

STUB_CALLS  the file that takes each call, a JSON list a line
STUB_CPU    where the index query finds a build for CPUs: `configured` or an index URL
STUB_FAIL   JSON list: a requirement and what pip would write to its log before it fails there
STUB_WAIT   JSON list: a requirement, a FIFO to say that pip is there, a FIFO whose writer lets it continue
"""

import json
import os
import sys
import sysconfig
from pathlib import Path


def note(call: list[str]) -> None:
    with open(os.environ["STUB_CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps(call) + "\n")


def index(arguments: list[str]) -> None:
    asked = arguments[arguments.index("--index-url") + 1] if "--index-url" in arguments else "configured"
    print("Available versions:", "9.9.9+cpu, 9.8.0+cpu" if os.environ.get("STUB_CPU") == asked else "9.9.9, 9.8.0")


def wants(requirement: str, arguments: list[str]) -> bool:
    return any(argument.startswith(requirement) for argument in arguments)


def install(log: Path, arguments: list[str]) -> None:
    wait, fail = json.loads(os.environ.get("STUB_WAIT", "[]")), json.loads(os.environ.get("STUB_FAIL", "[]"))
    if wait and wants(wait[0], arguments):
        Path(wait[1]).write_text("here", encoding="utf-8")
        Path(wait[2]).read_text(encoding="utf-8")
    if fail and wants(fail[0], arguments):
        log.write_text(f"2026-01-01T00:00:00,000 {fail[1]}\n", encoding="utf-8")
        raise SystemExit(1)
    log.write_text("2026-01-01T00:00:00,000   Skipping link: noise\n2026-01-01T00:00:00,000 Fine\n", encoding="utf-8")
    for argument in arguments:
        if argument.startswith("torch=="):
            version = argument.removeprefix("torch==").partition(",")[0]
            packages = Path(sysconfig.get_path("purelib"))
            for old in packages.glob("torch-*.dist-info"):
                (old / "METADATA").unlink()
                old.rmdir()
            info = packages / f"torch-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Name: torch\nVersion: {version}\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    note(["pip", *arguments])
    if "index" in arguments:
        index(arguments)
    else:
        install(Path(arguments[arguments.index("--log") + 1]), arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
