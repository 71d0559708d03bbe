"""Commands that go on while a page is closed: each with its log and its end in files.

So a server that is started again knows of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_installer.studio.store.acting import owner

CHATS, INSTALLS = "chats", "installs"
"""Folders of the data folder with the files of servers to chat with, and of installations."""
_SHARE = re.compile(r"(\d{1,3})\s?%")
"""What a command says of its progress."""
TAIL = 4000
"""Characters of a log that are read."""
_RUN = (
    "import json, os, subprocess, sys\n"
    "place, words = sys.argv[1], sys.argv[2:]\n"
    "with open(place + '.log', 'wb') as log:\n"
    "    code = subprocess.call([sys.executable, '-u', '-m', 'llm_installer', *words], stdin=subprocess.DEVNULL,\n"
    "                           stdout=log, stderr=subprocess.STDOUT)\n"
    "with open(place + '.new', 'w') as end:\n"
    "    json.dump(code, end)\n"
    "os.replace(place + '.new', place + '.end')\n"
)


@dataclass(frozen=True)
class Child:
    """A command that was started."""

    name: str
    """What it is about, as the page says it."""
    place: Path
    """Of its files, without their endings."""

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, 1 where it was killed."""
        with suppress(OSError, ValueError):
            return int(json.loads(self.place.with_name(f"{self.place.name}.end").read_text(encoding="utf-8")))
        return None if self.alive else 1

    @property
    def pid(self) -> tuple[int, str]:
        """Its number, and when that process began: a number alone may be another process's by now."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self.place.with_name(f"{self.place.name}.json").read_text(encoding="utf-8"))
            return int(found["pid"]), str(found["began"])
        return 0, ""

    @property
    def owner(self) -> str:
        """Who began it; empty where there were no accounts."""
        with suppress(OSError, ValueError, AttributeError):
            return str(json.loads(self.place.with_name(f"{self.place.name}.json").read_text("utf-8")).get("owner", ""))
        return ""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        pid, then = self.pid
        return bool(pid) and began(pid) == then != ""

    @property
    def lines(self) -> list[str]:
        """The last lines of what it said."""
        with suppress(OSError):
            text = self.place.with_name(f"{self.place.name}.log").read_text(encoding="utf-8", errors="replace")
            return [line.rpartition("\r")[2].strip() for line in text[-TAIL:].splitlines() if line.strip()]
        return []

    def end(self) -> None:
        """End it, with all that it started."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid[0], signal.SIGTERM)

    def fail(self, why: str) -> None:
        """It ended well, and is of no use after all."""
        self.place.with_name(f"{self.place.name}.log").write_text(f"Error: {why}\n", encoding="utf-8")
        self.place.with_name(f"{self.place.name}.end").write_text("1", encoding="utf-8")

    def forget(self) -> None:
        """Remove its files."""
        for ending in ("json", "log", "end"):
            self.place.with_name(f"{self.place.name}.{ending}").unlink(missing_ok=True)


def begin(name: str, place: Path, words: list[str], folder: Path) -> Child:
    """Start a command in `folder`. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    child = Child(name, place)
    child.forget()
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(place), *words],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # or what is left of it stays until this server ends
    about = {"name": name, "pid": process.pid, "began": began(process.pid), "owner": owner()}
    try:
        place.with_name(f"{place.name}.json").write_text(json.dumps(about), encoding="utf-8")
    except OSError:  # nobody would know of it
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        child.forget()
        raise
    return child


def share_of(lines: list[str]) -> int | None:
    """How far a command is, in percent, by its last line; None where that says nothing of it."""
    found = _SHARE.search(lines[-1]) if lines else None
    return min(100, int(found[1])) if found else None


def known(folder: Path) -> list[Child]:
    """The commands whose files are in a folder."""
    found = []
    for file in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            name = str(json.loads(file.read_text(encoding="utf-8"))["name"])
            found.append(Child(name, file.with_suffix("")))
    return found


def end_all(folder: Path) -> None:
    """End every command whose files are in a folder."""
    for child in known(folder):
        child.end()


def began(pid: int) -> str:
    """When a process began, as the system counts it; empty where it is gone, or only its exit code is left."""
    with suppress(OSError, IndexError):
        rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if rest[0] == "Z" else rest[19]
    return ""
