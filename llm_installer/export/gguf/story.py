"""The story of an export: read what the model is, write the file, open it in another process, give it its name.

Run as: llm-installer export MODEL --to gguf
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from llm_installer.core.errors import AdapterError, DiskError, ModelError, UsageError
from llm_installer.core.files import changeable
from llm_installer.core.hints import program
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir, allow
from llm_installer.core.quantisation import INSTEAD
from llm_installer.core.startup import no_telemetry
from llm_installer.core.text import short_path, shortened
from llm_installer.core.voice import Voice
from llm_installer.core.weight_files import weight_files
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.families import FAMILIES, context_of
from llm_installer.export.gguf.receipt import FileReceipt, problems
from llm_installer.export.gguf.request import KINDS, Exported, GgufRequest
from llm_installer.export.gguf.tensors import Planned, Read, plan_tensors
from llm_installer.export.gguf.vocabulary import vocabulary
from llm_installer.export.gguf.write import partial_of, publish, write_gguf
from llm_installer.export.prove import precision_for
from llm_installer.export.target import default_name, lock_name
from llm_installer.install.disk import delete, nearest_existing, require_space
from llm_installer.install.naming import wrong_with_name
from llm_installer.install.staging import directory_lock
from llm_installer.models.from_files import without_weights

_PACKAGE = Path(__file__).resolve().parents[3]


def export_gguf(folder: ModelDir, request: GgufRequest, voice: Voice) -> Exported:
    """Write a model as a GGUF file; it is complete, and proven, or absent.

    Raises UsageError for words that make no sense, ModelError for a model that cannot be written so and for a file that
    is not what it must be, InstallerError where the disk refuses.
    """
    no_telemetry()
    target = _target(folder, request)
    if not request.no_lora and (folder.lora.is_symlink() or folder.lora.exists()):
        raise AdapterError(
            f"{folder.root.name} has an adapter (./lora), and one file cannot hold both; make one model of them with: "
            f"{program()} merge {folder.typed}, and export that, or export the base alone with --no-lora"
        )
    info = read_model_info(folder.weights, folder.root.name)
    _refuse(info)
    with voice.waiting("Reading the model"):
        model = Read(folder.weights, without_weights(folder.weights), FAMILIES[info.model_type])
        for wrong in model.family.problems(model.facts):
            raise ModelError(f"{info.name} cannot be written as GGUF: {wrong}")
        words = vocabulary(load_encoder(info), model.facts.whole("vocab_size"))
    tensors = plan_tensors(model, request.type)
    require_space(nearest_existing(target.parent), sum(each.bytes for each in tensors))
    values = {"general.name": info.name, **model.family.values(model.facts), **words.values}
    indivisible = tuple(each.name for each in tensors if each.indivisible and request.type == "q8_0")
    notes = (*words.notes, *_context_notes(model, info))
    with directory_lock(lock_name(ModelDir(target)), "--out"):
        receipt = _written(folder, target, (model, values, tensors), (request.type, precision_for(info)), voice)
    paper = target.with_name(f"{target.name}.receipt.json")
    try:
        receipt.write(paper, {"indivisible": indivisible, "notes": notes, "file": target.name})
    except DiskError:  # a file without its proof would look as if it had none
        delete(target)
        raise
    return Exported(target, paper, info.name, target.stat().st_size, receipt, indivisible, notes)


def _written(
    folder: ModelDir,
    target: Path,
    what: tuple[Read, Values, list[Planned]],
    kind: tuple[str, str],
    voice: Voice,
) -> FileReceipt:
    """Write the file, prove it, give it its name; `kind` is the type of the weights and of the comparison."""
    model, values, tensors = what
    part = partial_of(target)
    try:
        with voice.waiting("Writing the file"):
            write_gguf(part, model.family.arch, values, tensors, kind[0])
        with voice.waiting("Comparing the file with the model"):
            receipt = _proven(folder, part, kind)
        for wrong in problems(receipt):
            raise ModelError(f"The file is not what the model is, and was not kept: {wrong}")
        publish(part, target)
    finally:
        delete(part)
    return receipt


def _target(folder: ModelDir, request: GgufRequest) -> Path:
    """The file to be. Raises UsageError for a name that no file can have, ModelError for one that is taken."""
    if request.type not in KINDS:
        raise UsageError(f"--type {request.type} is none of {', '.join(KINDS)}")
    name = f"{default_name(folder.root.resolve().name, request.type)}.gguf"
    target = Path(request.out).expanduser().absolute() if request.out else folder.root.absolute() / name
    if target.is_dir():
        target /= name
    if wrong := wrong_with_name(target.name):
        raise UsageError(f"A file cannot be called {target.name!r}: {wrong}; give another name with --out")
    if target.suffix != ".gguf":
        raise UsageError(f"{shortened(target.name, 60)} does not end with .gguf; give such a name with --out")
    if os.path.lexists(target):
        raise ModelError(f"{short_path(target)} is there already; give another name with --out, or remove it")
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {short_path(target.parent)}; make it, or give another name with --out")
    if not changeable(target.parent):
        raise ModelError(f"{short_path(target.parent)} cannot be written to; {allow(target.parent)}")
    return target


def _refuse(info: ModelInfo) -> None:
    """Raise ModelError for a model that no GGUF can be made of, before anything of it is read."""
    if info.model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(
            f"{info.name} is of the family {info.model_type or 'unknown'}, and only these can be written as GGUF: "
            f"{known}"
        )
    if info.stored.words:
        raise ModelError(
            f"The weights of {info.name} are published in {info.stored.words}, and cannot be written as GGUF; {INSTEAD}"
        )
    file = weight_files(info.path)[0]
    if file.suffix != ".safetensors":
        raise ModelError(
            f"The weights of {info.name} are in {file.name}, and only safetensors files can be read one tensor at a "
            "time; install a revision of the model that has them"
        )


def _context_notes(model: Read, info: ModelInfo) -> tuple[str, ...]:
    reads = context_of(model.facts) if "max_position_embeddings" in model.facts.values else info.max_positions
    if reads >= info.max_positions:
        return ()
    return (
        f"Its context is {reads:,} tokens in the file and not {info.max_positions:,}: llama.cpp does not read the "
        "sliding window of this architecture, and computes the same only within it",
    )


def _proven(folder: ModelDir, file: Path, kind: tuple[str, str]) -> FileReceipt:
    """What another process finds out about the file. Raises ModelError where it cannot open it."""
    command = [sys.executable, "-m", "llm_installer.export.gguf.prove", str(folder.root), str(file), *kind]
    paths = os.pathsep.join(filter(None, (str(_PACKAGE), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        why = shortened(done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}", 200)
        raise ModelError(f"The file could not be read back ({why}), and was not kept")
    found = json.loads(last)
    if "error" in found:
        raise ModelError(f"The file could not be read back ({found['error']}), and was not kept")
    return FileReceipt.of(found)
