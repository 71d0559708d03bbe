"""Models to talk to, from Python: `load` by run or name, `load_lora_model` by two paths, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.api.words import in_words_of_python
from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry, quiet_libraries
from llm_installer.core.state import Result
from llm_installer.core.voice import Silence

if TYPE_CHECKING:
    from torch import nn

    from llm_installer.export.request import Merged
    from llm_installer.inference.loaded import Loaded


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has."""

    trainable: int
    """Those of its adapter, or those with a gradient where it has none."""
    all: int
    """All of them, the adapter's included; of a base in 4 bits, those that they stand for."""

    @property
    def share(self) -> float:
        """Trainable ones as a share of all, from 0 to 1."""
        return self.trainable / self.all

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.all:,} parameters are trainable ({self.share:.2%})"


def load(
    model: str | Path | Result | Merged,
    *,
    run: str | None = None,
    lora: str | Path | None = None,
    no_lora: bool = False,
    use_4bit: bool = False,
    use_8bit: bool = False,
) -> Loaded:
    """Load a model with its adapter; what is returned has .ask(question), .generate(text), .generate_all(texts) and
    .conversation().

    `model` is the name or folder of an installed model, the folder of a run, what `lora_sft` returned (the adapter of
    that run) or what `merge` returned. `run` is the id of a run, a part of it, or "last"; `lora` the folder of any
    adapter; with neither it is ./lora, if there is one, and with `no_lora` the base alone. `use_4bit` and `use_8bit`
    hold the base in 4 or 8 bits.

    Raises InstallerError where the command line would print one sentence.
    """
    no_telemetry()
    given: dict[str, object] = {"run": run, "lora": lora, "no_lora": no_lora, "use_4bit": use_4bit}
    with in_words_of_python(given | {"use_8bit": use_8bit}), quiet_libraries():
        if use_4bit and use_8bit:
            raise UsageError("--use-4bit and --use-8bit contradict each other; give one of them")
        folder, own = _place(model)
        asked = sum((run is not None, lora is not None, no_lora))
        if own and asked:
            raise UsageError("The first argument names a run already; leave out --lora, --run and --no-lora")
        if asked > 1:
            raise UsageError("--lora, --run and --no-lora contradict each other; give one of them")
        chosen = own or _of_run(folder, run) or lora
        return _loaded(folder, None if chosen is None else str(chosen), no_lora, _quantised(use_4bit, use_8bit))


def load_lora_model(
    base_model_path: str | Path,
    lora_adapter_path: str | Path,
    device: object = None,
    *,
    use_4bit: bool = False,
    use_8bit: bool = False,
) -> Loaded:
    """Load an adapter from its own folder onto an installed model.

    `device` may be named for scripts of other trainers: what is there is used, and another one is refused. Raises
    InstallerError where the command line would print one sentence.
    """
    if device is not None:
        from llm_installer.core.hardware import probe_hardware

        kind = probe_hardware().device
        if str(device).partition(":")[0] not in (kind, "auto"):
            raise UsageError(f"device={str(device)!r}: models are loaded to {kind} here; leave it out")
    return load(base_model_path, lora=lora_adapter_path, use_4bit=use_4bit, use_8bit=use_8bit)


def trainable_parameters(model: Loaded | nn.Module) -> Parameters:
    """How many parameters a model has, and how many of them its adapter has: print it, or take the numbers.

    `model` is what `load` returned, or any module of torch.
    """
    from llm_installer.inference.loaded import Loaded, counts

    return Parameters(*counts(model.model if isinstance(model, Loaded) else model))


def _place(model: str | Path | Result | Merged) -> tuple[ModelDir, Path | None]:
    """The model directory, and the adapter where that is meant with it."""
    if isinstance(model, Result):
        return ModelDir.find(model.run.parent.parent), model.adapter
    if not isinstance(model, str | Path):
        return model.folder, None
    given = Path(model).expanduser()
    if (given / "run.json").is_file() and given.absolute().parent.name == "runs":
        folder = ModelDir.find(given.absolute().parent.parent)
        return folder, _of_run(folder, given.name)
    return ModelDir.find(model), None


def _of_run(folder: ModelDir, run: str | None) -> Path | None:
    from llm_installer.runs.listing import find_run

    return find_run(folder, run).adapter if run is not None else None


def _quantised(four: bool, eight: bool) -> str:
    return "nf4" if four else "int8" if eight else ""


def _loaded(folder: ModelDir, lora: str | None, without: bool, quantised: str) -> Loaded:
    from llm_installer.inference.loaded import Loaded
    from llm_installer.inference.start import ChatRequest
    from llm_installer.inference.start import load as load_model

    return Loaded(load_model(folder, ChatRequest(lora, without, quantised), Silence()).assistant)
