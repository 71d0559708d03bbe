"""The story of an adapter alone: read it, write it in the form of another program, read that back, give it its name.

Run as: llm-installer export MODEL --to gguf-lora
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llm_installer.core.errors import ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry
from llm_installer.core.text import short_path
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.export.adapter import read_changes
from llm_installer.export.child import ask
from llm_installer.export.chosen import made_by
from llm_installer.export.kinds import Exported, ExportRequest, type_of
from llm_installer.export.pairs.forms import Form, form_of
from llm_installer.export.pairs.pairs import Pair, pairs, refuse_unsayable
from llm_installer.export.pairs.receipt import PairReceipt, problems
from llm_installer.export.place import OTHER_DISK, bytes_of, keep_beside, leaving, place
from llm_installer.export.prove import precision_for
from llm_installer.export.receipt import RECEIPT
from llm_installer.export.subject import Subject, needed_lora, refuse_stored, subject_of
from llm_installer.export.target import default_name
from llm_installer.install.disk import nearest_existing, require_space
from llm_installer.models.file_names import tied_weights
from llm_installer.models.from_files import without_weights


def export_pairs(folder: ModelDir, request: ExportRequest, voice: Voice) -> Exported:
    """Write an adapter in the form of another program; it is complete, and proven, or absent.

    Raises UsageError for words that make no sense, AdapterError for an adapter that has more than that form can say,
    ModelError for a family that it is not for and for a result that is not what was trained, InstallerError where the
    disk refuses.
    """
    no_telemetry()
    form, kind, subject = form_of(request.to), type_of(request), subject_of(folder, request)
    lora = needed_lora(subject)
    ending = f".{form.ending.rpartition('.')[2]}" if "." in form.ending else ""
    stem = default_name(subject.base, f"{made_by(lora)}-{form.ending.removesuffix(ending)}")
    target = place(folder, request.out, stem + ending)
    found = read_pairs(subject, form, voice)
    needed = 4 * sum(p.a.numel() + p.b.numel() for p in found.values())
    require_space(nearest_existing(target.parent), needed, OTHER_DISK)
    notes = (*_notes(subject),)
    with leaving(target) as part:
        receipt = write_pairs(subject, (request.to, kind), found, part, voice)
        if part.is_dir():
            receipt.write(part / RECEIPT, {"notes": notes})
    paper = target / RECEIPT
    if target.is_file():
        paper = keep_beside(target, lambda file: receipt.write(file, {"notes": notes, "file": target.name}))
    commands = form.commands(subject, target)
    return Exported(target, paper, subject.name, bytes_of(target), (receipt,), notes=notes, commands=commands)


def read_pairs(subject: Subject, form: Form, voice: Voice) -> dict[str, Pair]:
    """What the adapter adds to each weight. Raises AdapterError and ModelError before a weight is read where the form
    cannot say it."""
    info, lora = subject.info, needed_lora(subject)
    form.refuse(info)
    refuse_stored(info, form.where)
    bare = without_weights(info.path)
    refuse_unsayable(subject, form.where, form.allowed, tied_weights(bare) is not None)
    with voice.waiting("Reading the adapter"):
        changes = read_changes(without_weights(info.path), lora)
    return pairs(subject, changes, lambda name: _is_turned(bare, name))


def _is_turned(bare: PreTrainedModel, parameter: str) -> bool:
    return isinstance(bare.get_submodule(parameter.rpartition(".")[0]), Conv1D)


def write_pairs(
    subject: Subject, what: tuple[str, str], found: Mapping[str, Pair], target: Path, voice: Voice
) -> PairReceipt:
    """Write it in the form and type of `what`, and compare it with PEFT's. Raises ModelError where it is not so."""
    kind, dtype = what
    with voice.waiting("Writing the adapter"):
        form_of(kind).write(subject.info, found, target, dtype)
    with voice.waiting("Comparing it with what was trained"):
        words = (kind, subject.folder.root, needed_lora(subject), target, dtype, precision_for(subject.info))
        told = ask("llm_installer.export.pairs.prove", [str(each) for each in words], "It could not be read back")
        receipt = PairReceipt.of(told)
    for wrong in problems(receipt):
        raise ModelError(f"The adapter is not what was trained, and was not kept: {wrong}")
    return receipt


def _notes(subject: Subject) -> list[str]:
    """What its user should know, a sentence each."""
    found = []
    if subject.about.quantised:
        found.append("It was trained on a base in 4 or 8 bits; on another one its answers differ a little")
    own = subject.tokenizer
    if own and load_tokenizer(own).chat_template != load_tokenizer(subject.info.path).chat_template:
        found.append(f"It was trained with a chat template of its own, which lies in {short_path(own)}")
    return found
