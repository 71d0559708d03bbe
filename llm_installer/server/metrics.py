"""/metrics: what the engine does, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from llm_installer.core.process_memory import resident_bytes
from llm_installer.inference.engine.request import Counts

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


def metrics(counts: Counts, models: int, alive: bool) -> str:
    """The text of /metrics."""
    found = [(name, kind, words, value(counts)) for name, kind, words, value in ROWS]
    found.append(("models", "gauge", "Models that are served.", models))
    found.append(("up", "gauge", "1 while the engine answers.", int(alive)))
    found.append(("resident_bytes", "gauge", "Memory of the process.", resident_bytes()))
    lines = []
    for name, kind, words, value in found:
        full = f"llm_installer_{name}"
        lines += [f"# HELP {full} {words}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return "\n".join(lines) + "\n"
