"""model_info.json: what is known about an installed model, and how it is read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.files import write_text
from llm_installer.core.model_info import fingerprint, read_model_info
from llm_installer.core.version import __version__
from llm_installer.install.resolve import Source

LIBRARIES = ("transformers", "torch", "peft")
_INSTALL_AGAIN = "install the model again with --force"


@dataclass(frozen=True)
class Weight:
    """One weight file as it was when the model was installed."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Lineage:
    """What a merged model was made of."""

    base: str
    """The name of the base's directory."""
    base_id: str
    """Where the base came from, as its own record says."""
    base_revision: str
    base_fingerprint: str
    base_weights: Mapping[str, str]
    """The sha256 of each weight file of the base."""
    adapter: str
    """The run, or the folder of the adapter."""
    adapter_sha256: str
    onto: str
    """For a run on a quantised base, `full` or `dequantised`: which of its bases is in the result; else empty."""
    style: str
    """`chat` or `text`, as it was trained."""
    thoughts: bool
    """Whether most of what it learned begins with a thought."""


@dataclass(frozen=True)
class ModelRecord:
    """The content of model_info.json."""

    name: str
    id: str
    source: str
    revision: str
    linked: bool
    model_type: str
    architecture: str
    parameters: int
    size: str
    dtype: str
    fingerprint: str
    bytes: int
    weights: Mapping[str, Weight]
    installed: str
    """When, in UTC, as ISO 8601."""
    versions: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage | None = None
    """Of a merged model; None for every other."""


def make_record(
    source: Source, folder: Path, hashes: Mapping[str, str], revision: str, lineage: Lineage | None = None
) -> ModelRecord:
    """The record of the model in `folder`, whose weight files have these sha256. Raises ModelError."""
    info = read_model_info(folder, source.dirname)
    weights = {name: Weight(sha256, (folder / name).stat().st_size) for name, sha256 in hashes.items()}
    return ModelRecord(
        name=source.dirname,
        id=source.id,
        source=source.kind,
        revision=revision,
        linked=source.link,
        model_type=info.model_type,
        architecture=info.architecture,
        parameters=info.parameters,
        size=info.size,
        dtype=info.dtype,
        fingerprint=fingerprint(folder),
        bytes=sum(w.bytes for w in weights.values()),
        weights=weights,
        installed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={"llm_installer": __version__} | {library: installed_version(library) for library in LIBRARIES},
        lineage=lineage,
    )


def installed_version(library: str) -> str:
    """The version of an installed distribution, read without importing it; empty when it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def write_record(file: Path, record: ModelRecord) -> None:
    """Write model_info.json."""
    write_text(file, json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n")


def read_record(file: Path) -> ModelRecord:
    """Read model_info.json. Raises ModelError when it is missing, damaged or written by another program."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found["weights"] = {name: Weight(**weight) for name, weight in found["weights"].items()}
        found["lineage"] = Lineage(**made_of) if (made_of := found.get("lineage")) else None  # older ones have none
        return ModelRecord(**{f.name: found[f.name] for f in fields(ModelRecord)})
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); {_INSTALL_AGAIN}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(f"{file} is damaged or was written by another program; {_INSTALL_AGAIN}") from None


def is_complete(folder: Path, record: ModelRecord) -> bool:
    """Whether the model in `folder` has its config and every recorded weight file in its full size."""
    return (folder / "config.json").is_file() and all(
        (folder / name).is_file() and (folder / name).stat().st_size == weight.bytes
        for name, weight in record.weights.items()
    )
