"""The rooms that a reader of runs needs import where Python has no Unix-only modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "llm_installer"
ROOMS = (("core", "planning", "install", "tiny"), ("runs", "ui", "cli"))

# What Windows lacks is taken away before anything of ours is imported. Modules of the standard library that know which
# system they are on, and need it here, are loaded first.
PROGRAM = """
import asyncio, importlib, os, random, signal, sys

MISSING = {"fcntl", "resource", "pwd", "grp", "termios"}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            raise ImportError(f"no {name} here")

for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refusing())
OF_UNIX = ("register_at_fork", "pread", "pwrite", "sysconf", "sched_getaffinity")
for owner, names in ((os, OF_UNIX), (signal, ("SIGHUP",))):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module)
try:
    import fcntl
except ImportError:
    print("refused")
"""


def modules(room: str) -> list[str]:
    files = sorted((PACKAGE / room).rglob("*.py"))
    return [".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for f in files]


@pytest.mark.parametrize("rooms", ROOMS, ids=" ".join)
def test_rooms_import_without_unix_only_modules(rooms: tuple[str, ...]) -> None:
    names = ["llm_installer", *(name for room in rooms for name in modules(room))]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [*names, "refused"], done.stderr[-2000:]
