"""Which adapter is meant by --run, --lora or neither, and which run it is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from llm_installer.core.adapter_info import WEIGHT_NAMES, AdapterInfo, read_adapter_info
from llm_installer.core.errors import AdapterError, UsageError
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path, shortened
from llm_installer.inference.start import ALONE, ANOTHER, chosen_lora
from llm_installer.runs.listing import RunRow, find_run, list_runs


@dataclass(frozen=True)
class Chosen:
    """An adapter that fits its base."""

    lora: Path
    about: AdapterInfo
    row: RunRow | None
    """Its run; None for an adapter that is of no run of this model."""

    @property
    def name(self) -> str:
        """The run, or the folder of the adapter."""
        return made_by(self.lora)


def find_adapter(
    folder: ModelDir, run: str | None, lora: str | None, without: bool = False, instead: str = ALONE
) -> Chosen | None:
    """The adapter that is meant; None where the model has none, or is meant `without` it.

    Raises UsageError where both are given, AdapterError where it is not there, which says what to do `instead`, or does
    not fit.
    """
    if run and lora:
        raise UsageError("--run and --lora contradict each other; give one of them")
    row = find_run(folder, run) if run else None
    found = chosen_lora(folder, str(row.adapter) if row else lora, without, instead)
    if found is None:
        return None
    return Chosen(found, sound_adapter(found, folder), row or run_of(folder, found))


def sound_adapter(lora: Path, folder: ModelDir) -> AdapterInfo:
    """What an adapter says of itself. Raises AdapterError where it is damaged, or made for another base: before it
    leaves, or anything is made of it."""
    about, file = read_adapter_info(lora, folder), lora / WEIGHT_NAMES[0]
    if file.is_file():
        from safetensors.torch import load_file

        for name, weight in load_file(file).items():
            if not bool(weight.float().isfinite().all()):
                raise AdapterError(
                    f"The adapter {short_path(lora)} is damaged: {shortened(name, 150)} holds values that are not "
                    "numbers; choose another with --lora or --run"
                )
    return about


def chosen_adapter(folder: ModelDir, run: str | None, lora: str | None, to: str) -> Chosen:
    """The same for what cannot do without one; `to` says what is to be done with it, as `merge`.

    Raises AdapterError where there is none, too.
    """
    return find_adapter(folder, run, lora, instead=ANOTHER) or no_adapter(folder, to)


def no_adapter(folder: ModelDir, to: str) -> NoReturn:
    """Raise AdapterError: there is none to be merged, pushed or whatever `to` says."""
    raise AdapterError(
        f"{folder.root.name} has no adapter to {to}; train one with {script(folder.root)} --data my.json, "
        "or name one with --run or --lora"
    )


def run_of(folder: ModelDir, lora: Path) -> RunRow | None:
    """The run of this model whose adapter it is."""
    return next((row for row in list_runs(folder) if row.adapter.resolve() == lora), None)


def made_by(lora: Path) -> str:
    """The run, or the folder of the adapter."""
    return lora.parent.name if lora.name == "adapter" else lora.name
