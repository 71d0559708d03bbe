"""What leaves: a model directory, and the adapter that is meant, found out without reading a weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.adapter_info import AdapterInfo, merged_info
from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.hints import program, quoted, script
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.quantisation import INSTEAD
from llm_installer.core.text import short_path
from llm_installer.core.weight_files import weight_files
from llm_installer.export.chosen import made_by, run_of, sound_adapter
from llm_installer.export.kinds import ExportRequest
from llm_installer.inference.start import chosen_lora
from llm_installer.runs.listing import RunRow, find_run


@dataclass(frozen=True)
class Subject:
    """A model, and what a run has taught it."""

    folder: ModelDir
    info: ModelInfo
    lora: Path | None
    """The folder of the adapter; None for the model alone."""
    about: AdapterInfo
    row: RunRow | None
    """The run of this model whose adapter it is."""

    @property
    def base(self) -> str:
        """The name of the model directory, also where it is reached through a link."""
        return self.folder.root.resolve().name

    @property
    def name(self) -> str:
        """Of model and run, for people."""
        return f"{self.base} with {made_by(self.lora)}" if self.lora else self.base

    @property
    def tokenizer(self) -> Path | None:
        """The adapter's own tokenizer, where it has one."""
        return self.lora if self.lora and (self.lora / "tokenizer_config.json").is_file() else None

    def merging(self) -> str:
        """The command that makes one model of both."""
        return f"{program()} merge {self.folder.typed}{self._which()}"

    def _which(self) -> str:
        if self.row:
            return f" --run {self.row.run.id}"
        return f" --lora {quoted(str(self.lora))}" if self.lora else ""


def subject_of(folder: ModelDir, request: ExportRequest) -> Subject:
    """What is meant. Raises UsageError for a run that is not there, AdapterError for an adapter that is not there,
    damaged or made for another base, ModelError for a model whose weights cannot be read one by one."""
    row = find_run(folder, request.run) if request.run else None
    lora = chosen_lora(folder, str(row.adapter) if row else request.lora, request.no_lora)
    info = read_model_info(folder.weights, folder.root.name)
    about = sound_adapter(lora, folder) if lora else merged_info(folder.info)
    return Subject(folder, info, lora, about, row or (run_of(folder, lora) if lora else None))


def needed_lora(subject: Subject) -> Path:
    """The adapter. Raises AdapterError where there is none."""
    if subject.lora is None:
        root = subject.folder.root
        raise AdapterError(
            f"{root.name} has no adapter to export; train one with {script(root)}, or name one with --run or --lora"
        )
    return subject.lora


def refuse_stored(info: ModelInfo, into: str) -> None:
    """Raise ModelError for weights that cannot be read one tensor at a time; `into` is what they cannot become."""
    if info.stored.words:
        raise ModelError(
            f"The weights of {info.name} are published in {info.stored.words}, and cannot be written as {into}; "
            f"{INSTEAD}"
        )
    file = weight_files(info.path)[0]
    if file.suffix != ".safetensors":
        raise ModelError(
            f"The weights of {info.name} are in {file.name}, and only safetensors files can be read one tensor at a "
            "time; install a revision of the model that has them"
        )


def refuse_quantised(subject: Subject) -> None:
    """Raise AdapterError for a run on a base in 4 or 8 bits: only a merge finds out onto which base it belongs."""
    if subject.lora and subject.about.quantised:
        raise AdapterError(
            f"{short_path(subject.lora)} was trained on a base in 4 or 8 bits, and onto which base it is merged must "
            f"be measured; do that with: {subject.merging()}, and export the model that it makes"
        )
