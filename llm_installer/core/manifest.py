"""The SHA-256 of every file in a folder: tells a complete folder from a truncated or changed one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file in `folder` beside them."""
    hashes = {f.relative_to(folder).as_posix(): sha256_of(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    (folder / MANIFEST).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def damage(folder: Path) -> str:
    """What is wrong with `folder`, for a sentence; empty when everything is as it was written."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError):
        return f"{MANIFEST} cannot be read"
    if not isinstance(hashes, dict):
        return f"{MANIFEST} is not a list of hashes"
    for name, expected in hashes.items():
        try:
            if sha256_of(folder / name) != expected:
                return f"{name} has changed since it was written"
        except OSError:
            return f"{name} is missing"
    return ""


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file in hexadecimal, as hub pages show it. Raises OSError."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            found.update(block)
    return found.hexdigest()
