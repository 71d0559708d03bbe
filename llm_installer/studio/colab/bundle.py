"""The result file of a training elsewhere: one zip with the adapter and what tells of its run, and no checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG, INFO
from llm_installer.core.errors import TrainingError
from llm_installer.core.files import unwritable
from llm_installer.core.manifest import MANIFEST, sha256_of
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import ADAPTER_FILE

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """A file that may be in a bundle."""

    most: int
    """Bytes that it may have."""
    required: bool = True


WEIGHTS = f"adapter/{ADAPTER_FILE}"
FILES: dict[str, Row] = {
    WEIGHTS: Row(4096 * MIB - 1),
    f"adapter/{CONFIG}": Row(MIB),
    f"adapter/{INFO}": Row(MIB),
    "run.json": Row(MIB),
    "plan.json": Row(MIB),
    "metrics.jsonl": Row(256 * MIB),
    "duration.json": Row(MIB, required=False),
    "samples.jsonl": Row(64 * MIB, required=False),
    "report.md": Row(8 * MIB, required=False),
}
"""All that a bundle may hold beside its manifest, by its place in the folder of a run."""
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from."""

    job: str
    version: str
    """Of the program, with the hash of its code."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    job: str
    version: str
    base: str
    """Fingerprint of the base weights."""
    files: dict[str, str]
    """SHA-256 of each file."""


def write_bundle(run: Run, model: ModelDir, origin: Origin, to: Path) -> Manifest:
    """Write the result of a run to the file `to`. Raises TrainingError where the run has none, DiskError."""
    found = {name: file for name in FILES if (file := run.root / name).is_file()}
    if missing := [name for name, row in FILES.items() if row.required and name not in found]:
        raise TrainingError(f"Run {run.id} has no {missing[0]}, so there is nothing to hand over")
    hashes = {name: sha256_of(file) for name, file in found.items()}
    manifest = Manifest(origin.job, origin.version, fingerprint(model.weights), hashes)
    temporary = to.with_name(f".{to.name}.new")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            _add(archive, MANIFEST, json.dumps(asdict(manifest), indent=2).encode())
            for name, file in found.items():
                _add(archive, name, file)
        os.replace(temporary, to)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(to, error) from None
    return manifest


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Weights do not get smaller, and all else is text."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if name == WEIGHTS else zipfile.ZIP_DEFLATED
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    with content.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
        shutil.copyfileobj(source, out, MIB)
