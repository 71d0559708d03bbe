"""The story of a folder for Ollama: the GGUF file, and the Modelfile that says how the model was trained to be used.

Run as: llm-installer export MODEL --to ollama
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.files import write_text
from llm_installer.core.hints import typed
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry
from llm_installer.core.voice import Voice
from llm_installer.export.chosen import made_by
from llm_installer.export.gguf.file import FilePlan, plan_file, write_file
from llm_installer.export.gguf.receipt import FileReceipt
from llm_installer.export.kinds import Exported, ExportRequest, type_of
from llm_installer.export.ollama.modelfile import Line, written
from llm_installer.export.ollama.usage import usage
from llm_installer.export.pairs.forms import form_of
from llm_installer.export.pairs.pairs import Pair
from llm_installer.export.pairs.receipt import PairReceipt
from llm_installer.export.pairs.story import read_pairs, write_pairs
from llm_installer.export.place import OTHER_DISK, bytes_of, empty_folder, leaving, place
from llm_installer.export.receipt import RECEIPT
from llm_installer.export.subject import Subject, needed_lora, subject_of
from llm_installer.export.target import default_name
from llm_installer.install.disk import nearest_existing, require_space

MODELFILE, ADAPTER = "Modelfile", "adapter.gguf"
REQUIRES = "0.32.0"
"""The version from which on Ollama uses the chat template in a GGUF file."""


@dataclass(frozen=True)
class _Work:
    """What goes into the folder."""

    subject: Subject
    plan: FilePlan
    pairs: dict[str, Pair] | None
    """The adapter, where it stays a file of its own."""

    @property
    def model(self) -> str:
        """The name of the GGUF file."""
        return f"{default_name(self.subject.base, self.plan.kind)}.gguf"


def export_ollama(folder: ModelDir, request: ExportRequest, voice: Voice) -> Exported:
    """Make a folder that `ollama create` takes; it is complete, and proven, or absent.

    Raises what export_gguf raises, and with `as_adapter` what export_pairs does.
    """
    no_telemetry()
    subject = subject_of(folder, request)
    if request.as_adapter:
        needed_lora(subject)
    ending = f"{made_by(subject.lora)}-ollama" if subject.lora else "ollama"
    target = place(folder, request.out, default_name(subject.base, ending))
    pairs = read_pairs(subject, form_of("gguf-lora"), voice) if request.as_adapter else None
    plan = plan_file(subject, type_of(request), voice, merging=not request.as_adapter)
    require_space(nearest_existing(target.parent), plan.bytes, OTHER_DISK)
    work = _Work(subject, plan, pairs)
    lines, more = usage(subject, plan)
    text = written([*_files(work), *lines])  # what no Modelfile can say is refused before a weight is written
    notes = (*plan.notes, *more)
    with leaving(target) as part:
        receipts = _filled(work, empty_folder(part), voice)
        write_text(part / MODELFILE, text)
        for receipt in reversed(receipts):
            name = ADAPTER if isinstance(receipt, PairReceipt) else work.model
            paper = part / (RECEIPT if receipt is receipts[0] else f"{name}.{RECEIPT}")
            receipt.write(paper, {"indivisible": plan.indivisible, "notes": notes, "file": name})
    name = name_of(target)
    commands = (f"cd {typed(target)}", f"ollama create {name} -f {MODELFILE}", f"ollama run {name}")
    size = bytes_of(target)
    return Exported(target, target / RECEIPT, subject.name, size, receipts, plan.indivisible, notes, commands)


def _files(work: _Work) -> Iterator[Line]:
    yield Line("FROM", f"./{work.model}")
    if work.pairs is not None:
        yield Line("ADAPTER", f"./{ADAPTER}")
    yield Line("REQUIRES", REQUIRES)


def _filled(work: _Work, part: Path, voice: Voice) -> tuple[FileReceipt | PairReceipt, ...]:
    """Write the files with weights, and compare each."""
    of_model = write_file(work.plan, part / work.model, voice)
    if work.pairs is None:
        return (of_model,)
    return of_model, write_pairs(work.subject, ("gguf-lora", "f32"), work.pairs, part / ADAPTER, voice)


def name_of(target: Path) -> str:
    """What the model may be called in Ollama: a colon would begin a tag there."""
    found = re.sub(r"[^a-z0-9._-]+", "-", target.name.removesuffix("-ollama").lower()).strip("-._")
    return found or "model"
