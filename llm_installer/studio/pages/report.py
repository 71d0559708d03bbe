"""What a run said while it trained, and what came of it, as its page shows both."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from llm_installer.core.paths import Run
from llm_installer.core.text import shortened
from llm_installer.studio.foresight import number
from llm_installer.studio.pages.points import lines_of
from llm_installer.studio.pages.words import for_page

SHOWN_SAMPLES = 8
LONGEST_REPORT = 400_000
"""Characters."""
_OF_A_JOB = re.compile(r"/\S*/studio/jobs/[0-9a-f-]{36}/data/")
"""Where the data of a job lies, which is nobody's business."""

_FOLDERS = re.compile(r"(?<=[ |])/(?:[^/\s|]+/)+(?=[^/\s|]+[.\w](?::\d+)? )")
"""The folders of a file that is named in a text."""


def samples(run: Run) -> list[tuple[str, list[tuple[int, str]]]]:
    """Prompt, and what was answered at the first and the latest evaluations."""
    found: dict[str, list[tuple[int, str]]] = {}
    for line in lines_of(run.samples):
        answers = found.setdefault(shortened(str(line.get("prompt", ""))), [])
        answers.append((int(number(line.get("step"))), shortened(str(line.get("answer", "")))))
    return [(prompt, [*said[:1], *said[1:][-2:]]) for prompt, said in list(found.items())[:SHOWN_SAMPLES]]


def start_of(file: Path) -> str:
    """The beginning of a text, which is all of it unless somebody else wrote it; empty where there is none."""
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")[:LONGEST_REPORT]
    return ""


def _of_page(line: str) -> str:
    """A line of a report for people who have a page: files without their folders, and no commands."""
    line = _FOLDERS.sub("", line)
    if line.startswith("|"):
        return line
    return "" if line.startswith("    ") else for_page(line)  # an indented one is a command to type


def report_parts(text: str) -> list[tuple[str, str]]:
    """A report by its headings, without what the page shows elsewhere."""
    first, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    first = _OF_A_JOB.sub("", first)
    lines = first.partition("\n")[2].partition("Talk to it:")[0].splitlines()
    found = [("", "\n".join(_of_page(line) for line in lines if not line.startswith("![")).strip())]
    for title, _, body in (part.partition("\n") for part in parts):
        found.append((title.strip(), "\n".join(map(_of_page, body.strip().splitlines()))))
    return [(title, body) for title, body in found if body and title not in ("Plan", "Your own prompts")]
