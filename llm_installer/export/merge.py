"""The story of a merge: read the adapter, look at the tuned model, write the merged one, look at that, publish it.

Run as: llm-installer merge MODEL --run last
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from llm_installer.core.adapter_info import WEIGHT_NAMES, AdapterInfo
from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.files import unwritable
from llm_installer.core.manifest import sha256_of
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.quantisation import INSTEAD
from llm_installer.core.startup import no_telemetry, ready
from llm_installer.core.text import short_path
from llm_installer.core.voice import Voice
from llm_installer.core.weight_files import read_headers, weight_files
from llm_installer.export.adapter import read_changes
from llm_installer.export.changes import Change
from llm_installer.export.chosen import Chosen, chosen_adapter
from llm_installer.export.prove import Reference, Tuned, asked_of, look_at, precision_for, prove
from llm_installer.export.published import dequantise, usual_dtype
from llm_installer.export.quantised import round_trip
from llm_installer.export.receipt import TOLERANCES, Receipt, Rounding, problems
from llm_installer.export.request import AUTO, BASES, DTYPES, FULL, Merged, MergeRequest
from llm_installer.export.target import lock_name, refuse_taken, target_of
from llm_installer.export.tensors import Base, plan_files, untied_by
from llm_installer.export.write import write_model
from llm_installer.install.disk import delete, nearest_existing, require_space
from llm_installer.install.model_record import Lineage, make_record, read_record, write_record
from llm_installer.install.resolve import Source
from llm_installer.install.scripts import write_scripts
from llm_installer.install.staging import directory_lock, publish, staging_of
from llm_installer.models.file_names import places, tied_weights
from llm_installer.models.from_files import without_weights

_COPY = ".base"
"""The folder below that of an unfinished merge in which a base lies dequantised."""


@dataclass(frozen=True)
class _Work:
    """What is merged, once it is known to fit."""

    folder: ModelDir
    chosen: Chosen
    info: ModelInfo
    base: Base
    changes: dict[str, list[Change]]
    dtype: str
    """As it was asked for."""

    @property
    def mostly(self) -> str:
        """The type of most of the result's weights."""
        found = self.info.dtype if self.dtype == AUTO else self.dtype
        return found if found in TOLERANCES else "float32"


def merge(folder: ModelDir, request: MergeRequest, voice: Voice) -> Merged:
    """Make a model directory of a base and an adapter; it is complete, and proven, or absent.

    Raises UsageError for words that contradict each other, AdapterError for an adapter that does not fit, ModelError
    for a base that nothing can be merged into and for a result that is not what it must be, InstallerError where the
    disk refuses.
    """
    no_telemetry()
    work, target = _prepared(folder, request)
    with directory_lock(lock_name(target), "--to", f"making {short_path(target.root)}"):
        refuse_taken(target.root)  # somebody else may just have finished
        staging = staging_of(target.root)
        _begin(staging)
        try:
            copy = None
            if work.info.stored.words:
                with voice.waiting("Dequantising the base"):
                    work, copy = _dequantised(work, ModelDir(staging.root / _COPY))
            with voice.waiting("Asking the tuned model"):
                tuned = Tuned(folder, work.chosen.lora, work.chosen.about.quantised, request.onto or "", copy)
                against = look_at(tuned, asked_of(work.chosen.row), precision_for(work.info))
            ready()
            merged = _filled(work, against, staging, voice)
            delete(staging.root / _COPY)
            publish(staging, target)
        finally:
            delete(staging.root)
    write_scripts(target)
    return Merged(target, *merged)


def _begin(staging: ModelDir) -> None:
    """An empty staging folder, whatever an interrupted merge has left there. Raises DiskError."""
    try:
        delete(staging.root)
        staging.weights.mkdir(parents=True)
    except OSError as error:
        raise unwritable(staging.root.parent, error) from None


def _prepared(folder: ModelDir, request: MergeRequest) -> tuple[_Work, ModelDir]:
    """Everything that can be refused before a weight is read."""
    _refuse_words(request)
    found = chosen_adapter(folder, request.run, request.lora, "merge")
    chosen, about = found.lora, found.about
    info = read_model_info(folder.weights, folder.root.name)
    _refuse_onto(request.onto, about, info, chosen)
    _refuse_base(info)
    bare = without_weights(folder.weights)
    base = _base(bare, folder.weights)
    changes = read_changes(bare, chosen)
    dtype = usual_dtype(info) if info.stored.words and request.dtype == AUTO else request.dtype
    work = _Work(folder, found, info, base, changes, dtype)
    target = target_of(folder, work.chosen.name, request.to)
    # Of a base that is published quantised there is a dequantised copy for a while.
    needed = info.parameters * 8 if info.stored.words else plan_files(base, changes, dtype).bytes
    require_space(nearest_existing(target.root), needed, "name with --to")
    return work, target


def _base(bare: PreTrainedModel, weights: Path) -> Base:
    """The base in a folder; `bare` is the same without weights."""
    return Base(weights, places(bare, read_headers(weights)), tied_weights(bare))


def _dequantised(work: _Work, copy: ModelDir) -> tuple[_Work, ModelDir]:
    """The same work on a dequantised copy of its base, which is written for that."""
    dequantise(work.info, work.chosen.lora, copy, precision_for(work.info))
    return replace(work, base=_base(without_weights(copy.weights), copy.weights)), copy


def _refuse_words(request: MergeRequest) -> None:
    for option, value, known in (("--dtype", request.dtype, DTYPES), ("--onto", request.onto, (None, *BASES))):
        if value not in known:
            raise UsageError(f"{option} {value} is none of {', '.join(each for each in known if each)}")


def _refuse_onto(onto: str | None, about: AdapterInfo, info: ModelInfo, lora: Path) -> None:
    """Raise UsageError for a base to merge onto where there is no choice."""
    if onto == FULL and info.stored.words:
        raise UsageError(
            f"--onto full needs full-precision weights, and those of {info.name} are published in {info.stored.words}; "
            f"leave it out to merge onto the dequantised ones, or {INSTEAD}"
        )
    if onto and not about.quantised and not info.stored.words:
        raise UsageError(
            f"--onto is for runs on a base in 4 or 8 bits, and {short_path(lora)} is of none; leave it out"
        )


def _refuse_base(info: ModelInfo) -> None:
    file = weight_files(info.path)[0]
    if file.suffix != ".safetensors":
        raise ModelError(
            f"The weights of {info.name} are in {file.name}, and only safetensors files can be merged; install a "
            "revision of the model that has them"
        )


def _filled(
    work: _Work, against: Reference, staging: ModelDir, voice: Voice
) -> tuple[str, str, int, int, str, Receipt]:
    """Write the model into the staging folder and prove it. Returns the fields of Merged after its folder."""
    base = work.base
    if against.quantised and against.onto != FULL:
        way = round_trip(work.chosen.about.quantised, against.trained_in)
        base = Base(base.folder, base.places, base.tied, against.quantised, way)
    plan = plan_files(base, work.changes, work.dtype)
    untied = untied_by(base, work.changes)
    with voice.waiting("Writing the merged model"):
        hashes = write_model(plan, base.folder, work.chosen.lora, staging.weights, (work.mostly, untied))
    source = Source("merged", work.folder.root.name, staging.root.name.removeprefix(".").removesuffix(".installing"))
    record = make_record(source, staging.weights, hashes, "", _lineage(work, against))
    write_record(staging.info, record)
    write_scripts(staging)
    rounding = Rounding(plan.count.moved, plan.count.lost)
    with voice.waiting("Asking the merged model"):
        receipt = prove(staging, against, work.mostly, rounding)
    for wrong in problems(receipt):
        raise ModelError(f"The merged model is not what was trained, and was not kept: {wrong}")
    receipt.write(staging.root)
    return work.folder.root.name, work.chosen.name, record.bytes, plan.untied, against.style, receipt


def _lineage(work: _Work, against: Reference) -> Lineage:
    """What the merged model was made of."""
    base = read_record(work.folder.info)
    file = next(work.chosen.lora / name for name in WEIGHT_NAMES if (work.chosen.lora / name).is_file())
    return Lineage(
        base=base.name,
        base_id=base.id,
        base_revision=base.revision,
        base_fingerprint=base.fingerprint,
        base_weights={name: weight.sha256 for name, weight in base.weights.items()},
        adapter=work.chosen.name,
        adapter_sha256=sha256_of(file),
        onto=against.onto,
        style=against.style,
        thoughts=work.chosen.about.thoughts,
    )
