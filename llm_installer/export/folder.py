"""All files of a merged model beside its weights: those of the base, the run's tokenizer, a config.

The tokenizer is the one that the adapter was trained with; the config says what the weights are.
"""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.config import CONFIG, read_config
from llm_installer.core.files import write_json
from llm_installer.core.weight_files import LAYOUTS
from llm_installer.install.disk import copy_hashed
from llm_installer.install.select_files import select_files

_TOKENIZER = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template")
"""How the names of a tokenizer's files begin."""
_ENDS = (".model", ".tiktoken")


def copy_companions(base: Path, lora: Path, target: Path) -> None:
    """Copy what belongs to the model beside weights and config: of the tokenizer the adapter's own, where it has one.

    Raises ModelError for a base that lacks files, InstallerError where the disk refuses.
    """
    own = (lora / "tokenizer_config.json").is_file()
    for name in companions(base):
        if not (own and of_tokenizer(name)):
            copy_hashed(base / name, target / name)
    if own:
        for file in sorted(lora.iterdir()):
            if file.is_file() and of_tokenizer(file.name):
                copy_hashed(file, target / file.name)


def companions(base: Path) -> list[str]:
    """The names of a base's files that are neither weights nor what describes these."""
    found = [p.relative_to(base).as_posix() for p in [*base.glob("*"), *base.glob("*/*.jinja")] if p.is_file()]
    chosen = select_files(found, lambda name: (base / name).read_text(encoding="utf-8"), str(base))
    described = {CONFIG, *(index for _, index in LAYOUTS)}
    return [name for name in chosen.others if name not in described]


def write_config(base: Path, target: Path, dtype: str, untied: bool) -> None:
    """Write config.json with the type of the weights and, where they are two tensors now, an output layer of its own.

    Raises DiskError.
    """
    config = read_config(base)
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        part.pop("quantization_config", None)
        if "dtype" in part or "torch_dtype" in part or part is config:
            part.pop("torch_dtype", None)
            part["dtype"] = dtype
        if untied and ("tie_word_embeddings" in part or part is config):
            part["tie_word_embeddings"] = False
    write_json(target / CONFIG, config)


def of_tokenizer(name: str) -> bool:
    """Whether a file of this name belongs to a tokenizer."""
    return name.startswith((*_TOKENIZER, "additional_chat_templates/")) or name.endswith(_ENDS)
