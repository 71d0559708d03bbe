"""The story of a GGUF file: read what the model is, write the file, open it in another process, give it its name.

Run as: llm-installer export MODEL --to gguf
"""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.hints import typed
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry
from llm_installer.core.voice import Voice
from llm_installer.export.chosen import made_by
from llm_installer.export.gguf.file import plan_file, write_file
from llm_installer.export.kinds import Exported, ExportRequest, type_of
from llm_installer.export.place import OTHER_DISK, keep_beside, leaving, place
from llm_installer.export.subject import subject_of
from llm_installer.export.target import default_name
from llm_installer.install.disk import nearest_existing, require_space


def export_gguf(folder: ModelDir, request: ExportRequest, voice: Voice) -> Exported:
    """Write a model, with the adapter merged into it, as a GGUF file; it is complete, and proven, or absent.

    Raises UsageError for words that make no sense, ModelError for a model that cannot be written so and for a file that
    is not what it must be, AdapterError for an adapter that does not fit, InstallerError where the disk refuses.
    """
    no_telemetry()
    kind = type_of(request)
    subject = subject_of(folder, request)
    target = place(folder, request.out, f"{default_name(subject.base, ending(subject.lora, kind))}.gguf")
    plan = plan_file(subject, kind, voice)
    require_space(nearest_existing(target.parent), plan.bytes, OTHER_DISK)
    with leaving(target) as part:
        receipt = write_file(plan, part, voice)
    more = {"indivisible": plan.indivisible, "notes": plan.notes, "file": target.name}
    paper = keep_beside(target, lambda file: receipt.write(file, more))
    return Exported(
        target, paper, subject.name, target.stat().st_size, (receipt,), plan.indivisible, plan.notes,
        commands=(f"llama-cli -m {typed(target)}",),
    )  # fmt: skip


def ending(lora: Path | None, kind: str) -> str:
    """What the names of files end with: the run, where there is one, and the type."""
    return f"{made_by(lora)}-{kind}" if lora else kind
