"""The files of a merged model: weights, what belongs to them, the config, and last the index that names the weights."""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.files import write_json
from llm_installer.core.weight_files import LAYOUTS
from llm_installer.export.folder import copy_companions, write_config
from llm_installer.export.shards import write_file
from llm_installer.export.tensors import Plan, named


def write_model(plan: Plan, base: Path, lora: Path, target: Path, what: tuple[str, bool]) -> dict[str, str]:
    """Fill the folder `target`; `what` is the type of most weights, and whether embedding and output layer are two now.

    Returns the sha256 of each weight file. Raises DiskError and InstallerError where the disk refuses.
    """
    dtype, untied = what
    hashes = {name: write_file(target / name, outputs) for name, outputs in plan.files.items()}
    copy_companions(base, lora, target)
    write_config(base, target, dtype, untied)
    single, index = LAYOUTS[0]
    if set(plan.files) != {single}:
        held = {"metadata": {"total_size": plan.bytes}, "weight_map": dict(sorted(named(plan)))}
        write_json(target / index, held)
    return hashes
