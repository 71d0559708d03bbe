"""A hub model as it would lie on the disk: its texts and headers are downloaded, its weights are sparse files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.outward import guard_the_hub
from llm_installer.core.startup import no_telemetry
from llm_installer.core.user_config import offer_token
from llm_installer.install.download import Meter, download
from llm_installer.install.from_hub import list_files
from llm_installer.install.hub_errors import explained
from llm_installer.install.resolve import Source
from llm_installer.install.select_files import select_files


def preview(source: Source, folder: Path) -> int:
    """Lay out a hub model in `folder`; everything but the weights can be read there as in the installed model.

    Returns the bytes that an install would download. Raises what `fill_from_hub` raises.
    """
    no_telemetry()
    offer_token()
    guard_the_hub()
    partial = folder / ".parts"
    partial.mkdir()
    with explained(source):
        commit, files = list_files(source)
        meter = Meter(lambda line: None, 0)

        def read(name: str) -> str:
            download(files[name], folder, partial, meter)
            return (folder / name).read_text(encoding="utf-8")

        selected = select_files(files, read, source.id)
        for name in {"tokenizer_config.json", "chat_template.jinja"}.intersection(selected.others):
            read(name)
        for name in selected.weights:
            header = _remote_header(source.id, name, commit) if name.endswith(".safetensors") else {}
            _write_sparse(folder / name, header, files[name].size or 0)
    return sum(files[name].size or 0 for name in (*selected.weights, *selected.others))


def _remote_header(model: str, name: str, commit: str) -> dict[str, object]:
    """The header of a safetensors file on the hub, from its first kilobytes."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import SafetensorsParsingError

    api, seconds = HfApi(library_name="llm-installer"), constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        found = api.parse_safetensors_file_metadata(model, name, revision=commit, timeout=seconds)
    except SafetensorsParsingError as error:
        raise ModelError(f"{name} of {model} is damaged on the hub (its header cannot be read)") from error
    return {
        tensor: {"dtype": t.dtype, "shape": t.shape, "data_offsets": t.data_offsets}
        for tensor, t in found.tensors.items()
    }


def _write_sparse(file: Path, header: dict[str, object], size: int) -> None:
    """A safetensors file with this header and no content, which takes no room on the disk."""
    body = json.dumps(header).encode() if header else b""
    end = max((t["data_offsets"][1] for t in header.values() if isinstance(t, dict)), default=0)
    with file.open("wb") as data:
        if body:
            data.write(struct.pack("<Q", len(body)) + body)
        data.truncate(data.tell() + end if body else size)
