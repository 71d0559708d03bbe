"""The weight files of a model folder: which ones transformers loads, and the tensors that their headers name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import AGAIN, head, is_pointer, pointer, read_object, valued
from llm_installer.core.safetensors import TensorHeader, read_header
from llm_installer.core.text import counted, short_path, shortened

LAYOUTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""Ways that weights are stored, in the order in which transformers looks: one file, else an index of shards."""


def weight_files(folder: Path) -> list[Path]:
    """The weight files transformers would load: safetensors first, else PyTorch .bin.

    Raises ModelError where there is none, one is missing, or an index names what is not a file of the folder.
    """
    for single, index in LAYOUTS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            names = sorted(set(_shards(folder / index).values()))
            missing = [n for n in names if not (folder / n).is_file()]
            if missing:
                raise ModelError(f"{short_path(folder)} is incomplete: {missing[0]} is missing; {AGAIN}")
            return [folder / n for n in names]
    raise ModelError(
        f"{short_path(folder)} holds no weights (model.safetensors or pytorch_model.bin); install the model again"
    )


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Every tensor of the safetensors files of a folder; empty for PyTorch .bin, which has no headers.

    Raises ModelError for damaged files, and for shards without the tensors that their index says they hold.
    """
    files = weight_files(folder)
    if files[0].suffix != ".safetensors":
        _refuse_pointers(files)
        return {}
    headers = {file.name: read_header(file) for file in files}
    index = folder / LAYOUTS[0][1]
    if files[0].name != LAYOUTS[0][0]:
        lost = [(tensor, shard) for tensor, shard in _shards(index).items() if tensor not in headers[shard]]
        if lost:
            raise ModelError(
                f"{short_path(folder / lost[0][1])} lacks {counted(len(lost), 'tensor')} that {index.name} names, "
                f"among them {shortened(lost[0][0], 100)}; {AGAIN}"
            )
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def read_tensors(folder: Path, names: Collection[str]) -> dict[str, bytes]:
    """The content of small tensors in the safetensors files of a folder; of larger ones, the first 64 KiB.

    Raises ModelError for damaged files.
    """
    found = {}
    for file in weight_files(folder):
        wanted = {name: tensor for name, tensor in read_header(file).items() if name in names}
        with file.open("rb") as data:
            start = 8 + int.from_bytes(data.read(8), "little")
            for name, tensor in wanted.items():
                data.seek(start + tensor.start)
                found[name] = data.read(min(tensor.end - tensor.start, 1 << 16))
    return found


def shards_of(index: Mapping[str, object], shown: str, again: str = AGAIN) -> dict[str, str]:
    """The file of each tensor, as the index `shown` says. Raises ModelError where that makes no sense."""
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelError(f"{shown} names no weight files; {again}")
    wrong = [name for name in listed.values() if not _is_plain(name)]
    if wrong:
        raise ModelError(f"{shown} names {valued(wrong[0])}, which is not the name of a weight file beside it; {again}")
    return listed


def _shards(index: Path) -> dict[str, str]:
    return shards_of(read_object(index), short_path(index))


def _is_plain(name: object) -> bool:
    """Whether it is the name of a file in the same folder, as an index must have it."""
    return (
        isinstance(name, str)
        and name.endswith((".safetensors", ".bin"))
        and PurePosixPath(name).name == name
        and len(name) < 256
        and not set(name) & {"\\", "\0"}
    )


def _refuse_pointers(files: list[Path]) -> None:
    for file in files:
        if is_pointer(head(file)):
            raise ModelError(pointer(short_path(file)))
