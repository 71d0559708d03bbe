"""A GGUF file of a model and an adapter: planned before a weight is read, written, and proven in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.export.adapter import read_changes
from llm_installer.export.child import ask
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.families import FAMILIES, context_of
from llm_installer.export.gguf.quantise import AS, quantise, refuse_quantising
from llm_installer.export.gguf.receipt import FileReceipt, problems
from llm_installer.export.gguf.tensors import Planned, Read, plan_tensors
from llm_installer.export.gguf.vocabulary import vocabulary
from llm_installer.export.gguf.write import write_gguf
from llm_installer.export.prove import precision_for
from llm_installer.export.subject import Subject, refuse_quantised, refuse_stored
from llm_installer.install.disk import delete
from llm_installer.models.from_files import without_weights

UNREADABLE = "The file could not be read back"


@dataclass(frozen=True)
class FilePlan:
    """What is written."""

    subject: Subject
    lora: Path | None
    """The adapter that is merged into it; None for the base alone."""
    model: Read
    encoder: Encoder
    values: Values
    tensors: list[Planned]
    kind: str
    """The type of the weights."""
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.tensors)

    @property
    def indivisible(self) -> tuple[str, ...]:
        """Tensors that are f16 where others are q8_0."""
        return tuple(each.name for each in self.tensors if each.indivisible and self.kind == "q8_0")


def plan_file(subject: Subject, kind: str, voice: Voice, merging: bool = True) -> FilePlan:
    """Plan it; only the adapter's weights are read. Without `merging` it is the base with the adapter's tokenizer.

    Raises ModelError for a model that cannot be written so, AdapterError for an adapter that does not fit.
    """
    info = subject.info
    refuse_family(info)
    refuse_stored(info, "GGUF")
    refuse_quantising(kind)
    lora = subject.lora if merging else None
    if lora:
        refuse_quantised(subject)
    with voice.waiting("Reading the model"):
        model = read_model(info)
        facts = model.facts
        encoder = load_encoder(info, adapter=subject.tokenizer)
        words = vocabulary(encoder, facts.whole("vocab_size"))
        if lora:
            # PEFT's layers are put on what it reads the changes from, which the tensors must not see.
            model = Read(model.folder, model.bare, model.family, read_changes(without_weights(info.path), lora))
    name = subject.name if lora else subject.base
    values = {"general.name": name, **model.family.values(facts), **words.values}
    notes = (*words.notes, *_context_notes(model, info))
    return FilePlan(subject, lora, model, encoder, values, plan_tensors(model, AS.get(kind, kind)), kind, notes)


def read_model(info: ModelInfo) -> Read:
    """The architecture of a model of a family in FAMILIES. Raises ModelError for settings that llama.cpp lacks."""
    model = Read(info.path, without_weights(info.path), FAMILIES[info.model_type])
    for wrong in model.family.problems(model.facts):
        raise ModelError(f"{info.name} cannot be written as GGUF: {wrong}")
    return model


def refuse_family(info: ModelInfo) -> None:
    """Raise ModelError for a family that llama.cpp is not written for here."""
    if info.model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(
            f"{info.name} is of the family {info.model_type or 'unknown'}, and only these can be written as GGUF: "
            f"{known}"
        )


def write_file(plan: FilePlan, file: Path, voice: Voice) -> FileReceipt:
    """Write it, and compare it with the model. Raises ModelError where it is not the same, DiskError where the disk
    refuses; what was written is then still there."""
    arch, written = plan.model.family.arch, AS.get(plan.kind, plan.kind)
    first = file if written == plan.kind else file.with_name(f".{file.name}.{written}")
    try:
        with voice.waiting("Writing the file"):
            write_gguf(first, arch, plan.values, plan.tensors, written)
        if first != file:
            with voice.waiting("Quantising the file"):
                quantise(first, file, plan.kind)
    finally:
        if first != file:
            delete(first)
    with voice.waiting("Comparing the file with the model"):
        receipt = proven(plan, file)
    for wrong in problems(receipt):
        raise ModelError(f"The file is not what the model is, and was not kept: {wrong}")
    return receipt


def proven(plan: FilePlan, file: Path) -> FileReceipt:
    """What another process finds out about the file. Raises ModelError where it cannot open it."""
    subject = plan.subject
    words = [subject.folder.root, file, plan.kind, precision_for(subject.info)]
    chosen = [str(each or "") for each in (*words, plan.lora, subject.tokenizer)]
    return FileReceipt.of(ask("llm_installer.export.gguf.prove", chosen, UNREADABLE))


def _context_notes(model: Read, info: ModelInfo) -> tuple[str, ...]:
    reads = context_of(model.facts) if "max_position_embeddings" in model.facts.values else info.max_positions
    if reads >= info.max_positions:
        return ()
    return (
        f"Its context is {reads:,} tokens in the file and not {info.max_positions:,}: llama.cpp does not read the "
        "sliding window of this architecture, and computes the same only within it",
    )
