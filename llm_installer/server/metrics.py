"""/metrics: what the engine does, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_installer.core.process_memory import resident_bytes
from llm_installer.inference.engine.request import Counts
from llm_installer.server.hosts import Host

ROWS: tuple[tuple[str, str, str, Callable[[Counts], int]], ...] = (
    ("answering_rows", "gauge", "Answers that are being made.", lambda c: c.answering),
    ("reading_rows", "gauge", "Answers whose prompt is being read.", lambda c: c.reading),
    ("waiting_requests", "gauge", "Requests in the queue.", lambda c: c.waiting),
    ("requests_total", "counter", "Requests taken since the start.", lambda c: c.requests),
    ("prompt_tokens_total", "counter", "Tokens of prompts.", lambda c: c.prompt_tokens),
    ("reused_prompt_tokens_total", "counter", "Tokens of prompts known from before.", lambda c: c.reused_tokens),
    ("generated_tokens_total", "counter", "Tokens made.", lambda c: c.new_tokens),
    ("cache_bytes", "gauge", "Memory of keys and values.", lambda c: c.cache_bytes),
    ("kept_conversations", "gauge", "Conversations whose keys and values are kept.", lambda c: c.kept),
)
_RESIDENT = "Memory of the process."


def metrics(hosts: Sequence[Host]) -> str:
    """The text of /metrics; of several models, each figure is told for each."""
    counts = [host.engine.counts() for host in hosts]
    marks = [f'{{model="{_quoted(host.name)}"}}' if len(hosts) > 1 else "" for host in hosts]
    found = [(name, kind, words, [value(each) for each in counts]) for name, kind, words, value in ROWS]
    found.append(("models", "gauge", "Models that are served.", [len(host.engine.served) for host in hosts]))
    found.append(("up", "gauge", "1 while the engine answers.", [int(host.engine.alive) for host in hosts]))
    lines = [line for row in found for line in _lines(*row, marks)]
    return "\n".join([*lines, *_lines("resident_bytes", "gauge", _RESIDENT, [resident_bytes()], [""])]) + "\n"


def _lines(name: str, kind: str, words: str, values: Sequence[int], marks: Sequence[str]) -> list[str]:
    full = f"llm_installer_{name}"
    figures = [f"{full}{mark} {value}" for mark, value in zip(marks, values, strict=True)]
    return [f"# HELP {full} {words}", f"# TYPE {full} {kind}", *figures]


def _quoted(name: str) -> str:
    """As the value of a label may stand."""
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
