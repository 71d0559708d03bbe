"""What a worker may hand in: files of a run by name and hash, an adapter among them.

`accepted` is asked before a job is completed, whoever did it; what an adapter from elsewhere must be besides is one
more check there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.studio import blobs
from llm_installer.studio.plain import Json
from llm_installer.studio.store.refusals import Refused

ADAPTER = "adapter/"
NEEDED = (f"{ADAPTER}adapter_model.safetensors", f"{ADAPTER}adapter_config.json")
OF_ADAPTER = (
    "README.md",
    "adapter_config.json",
    "adapter_info.json",
    "adapter_model.safetensors",
    "added_tokens.json",
    "chat_template.jinja",
    "manifest.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Names of files in the folder of an adapter."""
OF_RUN = (
    "duration.json",
    "metrics.jsonl",
    "plan.json",
    "report.md",
    "run.json",
    "samples.jsonl",
    "training_history.png",
)
"""Names of files beside it."""
NAMES = (*(ADAPTER + name for name in OF_ADAPTER), *OF_RUN)
_HASH = re.compile(r"[0-9a-f]{64}")


class NotAccepted(Refused):
    """A result that is not what it should be."""

    status = 422
    code = "result_not_accepted"


@dataclass(frozen=True)
class ResultFile:
    """A file of a result."""

    path: str
    """One of NAMES."""
    sha256: str
    bytes: int


def accepted(folder: Path, files: Sequence[ResultFile]) -> None:
    """Raise NotAccepted where a file may not be there, is missing, or was not sent completely."""
    names = [file.path for file in files]
    if strange := sorted(set(names) - set(NAMES)):
        raise NotAccepted(f"A result has no file {strange[0]!r}")
    if missing := [name for name in NEEDED if name not in names]:
        raise NotAccepted(f"The result lacks {missing[0]}")
    if len(names) != len(set(names)):
        raise NotAccepted("A file of the result is there twice")
    for file in files:
        if not _HASH.fullmatch(file.sha256) or blobs.received(folder, file.sha256) != (file.bytes, True):
            raise NotAccepted(f"{file.path} was not sent completely")


def as_json(files: Sequence[ResultFile]) -> list[Json]:
    """The files, as the result of a job keeps them."""
    return [asdict(file) for file in files]


def files_of(result: Json) -> list[ResultFile]:
    """The files of a job's result; none where there is none."""
    found = result.get("files")
    return [ResultFile(**one) for one in found] if isinstance(found, list) else []
