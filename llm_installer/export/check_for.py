"""What an engine would make of an adapter, and what to type to use it there.

Run as: llm-installer check-for vllm MODEL --run last
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.hints import program, quoted, typed
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.export.engines import OLLAMA, Finding, Module, findings, read_adapter, served_name, vllm_words

_OF_FOLDERS = (
    "A Modelfile of your own can name the folder after ADAPTER, too; what it names after FROM must then be these very "
    "weights, which those of Ollama's library are not."
)


@dataclass(frozen=True)
class Checked:
    """What an engine would make of an adapter, and what to type."""

    engine: str
    adapter: str
    """Its name."""
    findings: tuple[Finding, ...] = ()
    commands: tuple[str, ...] = ()
    """What to type, in this order."""
    notes: tuple[str, ...] = ()


def check(engine: str, folder: ModelDir, lora: Path, name: str) -> Checked:
    """What this engine would make of the adapter `name` in `lora`, and what to type."""
    adapter = read_adapter(lora, folder)
    found = findings(engine, adapter)
    merged = f"{folder.root.resolve().name}-merged"
    merge = f"{program()} merge {folder.typed} --lora {typed(lora)} --to {quoted(merged)}"
    if engine == OLLAMA:
        export = f"{program()} export {folder.typed} --lora {typed(lora)} --to ollama"
        return Checked(engine, name, found, (export,), () if found else (_OF_FOLDERS,))
    if found:
        serve = f"vllm serve {typed(models_dir() / merged / 'model')} --served-model-name {served_name(name)}"
        return Checked(engine, name, found, (merge, serve))
    template = lora / "chat_template.jinja"
    jinja = typed(template) if template.is_file() else ""
    module = Module(served_name(name), typed(lora), adapter.rank)
    serve = " ".join(vllm_words(typed(folder.weights), [module], jinja))
    return Checked(engine, name, (), (serve,), _vllm_notes(served_name(name)))


def _vllm_notes(name: str) -> tuple[str, ...]:
    return (
        f"Ask for the model {name!r}; the name of the base answers without the adapter.",
        "One chat template holds for the whole server; answers may differ in the last digits, since its kernels do.",
    )
