"""How a model was trained to be used, as instructions of a Modelfile: length, stops, sampling, system text, ..."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from llm_installer.core.paths import Run
from llm_installer.data.encoding.encode import Encoder
from llm_installer.export.gguf.file import FilePlan
from llm_installer.export.ollama.derive import derive
from llm_installer.export.ollama.modelfile import Line, sayable
from llm_installer.export.prove import asked_of
from llm_installer.export.subject import Subject
from llm_installer.inference.start import ChatRequest

_USUAL = 4096
"""Tokens where nothing says how long the texts were that it was trained on."""
_LEAST = 2048
"""Tokens that a conversation needs, also where all texts of the training were shorter: Ollama cuts without a word."""
_LONGEST_LICENCE = 1 << 17


def usage(subject: Subject, plan: FilePlan) -> tuple[list[Line], list[str]]:
    """The instructions, and what whoever uses them should know, a sentence each. No weight is read."""
    encoder, style = plan.encoder, subject.about.style or ("text" if plan.encoder.default_template else "chat")
    notes: list[str] = []
    lines = [
        Line("PARAMETER", str(_length(subject, plan)), "num_ctx"),
        Line("PARAMETER", f"{ChatRequest().temperature:g}", "temperature"),
    ]
    for stop in stops(encoder, style):
        line = Line("PARAMETER", stop, "stop")
        if sayable(line):
            lines.append(line)
        else:
            notes.append(f"A Modelfile cannot say the stop {stop!r}, so it is left out")
    template, why = _template(encoder, style)
    if template:
        lines.append(Line("TEMPLATE", template))
    else:
        notes.append(f"No TEMPLATE is written, since {why}; Ollama takes the chat template in the file")
    if style == "chat" and (system := _system(subject)):
        lines.append(Line("SYSTEM", system))
    lines += _licence(subject.info.path)
    return lines, notes


def stops(encoder: Encoder, style: str) -> Iterator[str]:
    """The texts that end an answer: of the template, and each token that ends one."""
    tokens = [str(encoder.tokenizer.decode([number])) for number in encoder.stop_ids]
    if style != "chat":
        return iter([str(encoder.tokenizer.decode([encoder.eos]))])
    stop = encoder.template.stop
    own = stop.strip() if stop.strip() in tokens else stop
    return iter(dict.fromkeys(text for text in (own, *tokens) if text))


def _template(encoder: Encoder, style: str) -> tuple[str, str]:
    if style == "text":  # the words of the prompt alone
        return "{{ .Prompt }}", ""
    found, why = derive(encoder)
    if found and not sayable(Line("TEMPLATE", found)):
        return "", "a Modelfile cannot say it"
    return found, why


def _length(subject: Subject, plan: FilePlan) -> int:
    """Tokens of the longest texts that it was trained on, as far as is known, and enough for a conversation; never more
    than the model reads."""
    trained = _trained_length(subject.row.run) if subject.row else 0
    return min(max(trained or _USUAL, _LEAST), _most(plan))


def _most(plan: FilePlan) -> int:
    """Tokens that the file allows."""
    most = plan.values.get(f"{plan.model.family.arch}.context_length", plan.values.get("context_length"))
    return most if isinstance(most, int) else sys.maxsize


def _trained_length(run: Run) -> int:
    try:
        found = json.loads(run.plan.read_text(encoding="utf-8")).get("max_seq_length")
    except (OSError, ValueError, AttributeError):
        return 0
    return found if isinstance(found, int) else 0


def _system(subject: Subject) -> str:
    """The system text with which each row begins that was looked at; empty where there is no such one."""
    if subject.row is None:
        return ""
    first = [each.messages[0] for each in asked_of(subject.row).examples if each.messages]
    texts = {message.content if message.role == "system" else "" for message in first}
    return texts.pop() if len(texts) == 1 else ""


def _licence(folder: Path) -> Iterator[Line]:
    for file in sorted(folder.glob("LICENSE*")):
        if file.is_file() and file.stat().st_size <= _LONGEST_LICENCE:
            line = Line("LICENSE", file.read_text(encoding="utf-8", errors="replace").strip())
            if sayable(line):
                yield line
