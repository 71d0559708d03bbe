"""Files that people give as data and that hold no examples: what each is, and what to do instead."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")
_NO_TEXT = {
    "a PDF": (b"%PDF-",),
    "a picture": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
    "sound or video": (b"ID3", b"RIFF", b"OggS", b"\x1aE\xdf\xa3"),
    "a program": (b"\x7fELF",),
}
"""Kinds of files by how they begin."""


def wrong_file(file: Path, name: str) -> str:
    """Why a file that was given cannot be examples, and what to give; empty where it may be some."""
    with suppress(OSError):
        if file.stat().st_size == 0:
            return f"{name} is empty; choose a file with examples"
        with file.open("rb") as opened:
            start = opened.read(16)
        if zipfile.is_zipfile(file):
            return _of_zip(file, name)
        if start.startswith(b"GGUF") or name.lower().endswith(_WEIGHTS):
            return f"{name} holds the weights of a model, not examples; models are installed on the page Models"
        for kind, starts in _NO_TEXT.items():
            if start.startswith(starts):
                return f"{name} is {kind}; copy its text into a table with a question and an answer in each row"
    return ""


def _of_zip(file: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(file) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return f"{name} looks like a zip file, but cannot be read; pack it again, or give the file that is in it"
    last = {one.rpartition("/")[2] for one in names}
    if {"adapter/adapter_config.json", "manifest.json"} <= set(names):
        return (
            f"{name} is a result from Colab, not examples; the page of its training takes it, under Train it on Colab"
        )
    if "adapter_config.json" in last:
        return (
            f"{name} is an adapter, the result of a training, and not examples; it needs no training any more, "
            "and its run can be talked to on the page Chat"
        )
    if any(one.endswith((".safetensors", ".gguf")) for one in last):
        return f"{name} holds the weights of a model, not examples; models are installed on the page Models"
    if "word/document.xml" in names:
        return f"{name} is a Word file; save it as text (.txt), or make a table with questions and answers of it"
    if "xl/workbook.xml" in names:
        return f"{name} is a spreadsheet; save it as CSV in your spreadsheet program, and give that"
    return ""
