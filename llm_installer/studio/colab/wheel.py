"""The wheel that workers and notebooks install: exactly the files that this process runs, whatever a commit says.

Its version ends in a hash of those files, so that an installed copy can tell whether it is the code of the server.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.files import unwritable
from llm_installer.core.hints import pip
from llm_installer.core.version import __version__

_PACKAGE = Path(__file__).resolve().parents[2]
_BESIDE = ("handlers", "templates")
"""Parts of the package that lie beside it in a checkout."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file in a wheel, so that equal code makes equal wheels."""
_NAME = "llm_installer"
_METADATA = "from setuptools.build_meta import prepare_metadata_for_build_wheel as made; import sys; made(sys.argv[1])"


@dataclass(frozen=True)
class Wheel:
    """A wheel on the disk."""

    path: Path
    version: str
    sha256: str


@dataclass(frozen=True)
class _Metadata:
    """What a wheel says of itself."""

    text: str
    entry_points: str


def code_files() -> dict[str, Path]:
    """Each file of this program, by its place in an installed copy."""
    roots = {_NAME: _PACKAGE}
    roots |= {f"{_NAME}/{name}": _PACKAGE.parent / name for name in _BESIDE if not (_PACKAGE / name).is_dir()}
    found = {
        f"{place}/{file.relative_to(root).as_posix()}": file
        for place, root in roots.items()
        for file in root.rglob("*")
        if _is_code(file.relative_to(root)) and file.is_file()
    }
    return dict(sorted(found.items()))


def code_version() -> str:
    """The version with a hash of the code that this process runs. An installed wheel and its server say the same."""
    return _version({place: file.read_bytes() for place, file in code_files().items()})


@cache
def running_version() -> str:
    """The same as it was when it was first asked for: what this process runs, though the files may change later."""
    return code_version()


def differs(server: str, worker: str) -> str:
    """Why a worker of this version may not work for the server; empty where it is the same code."""
    if server == worker:
        return ""
    return (
        f"This worker runs LLM Installer {worker}, and the server runs {server}; "
        "install the wheel that the server offers, and start the worker again"
    )


def build_wheel(folder: Path) -> Wheel:
    """Write the wheel to `folder`, in the place of older ones.

    Raises InstallerError where what it needs cannot be found out, DiskError where it cannot be written.
    """
    contents = {place: file.read_bytes() for place, file in code_files().items()}
    version = _version(contents)
    metadata = _metadata()
    info = f"{_NAME}-{version}.dist-info"
    contents |= {
        f"{info}/METADATA": re.sub(r"(?m)^Version: .*$", f"Version: {version}", metadata.text, count=1).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: llm_installer\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": metadata.entry_points.encode(),
    }
    contents[f"{info}/RECORD"] = _record(contents, f"{info}/RECORD")
    data = _zipped(contents)
    path = folder / f"{_NAME}-{version}-py3-none-any.whl"
    try:
        _write(path, data)
    except OSError as error:
        raise unwritable(path, error) from None
    return Wheel(path, version, hashlib.sha256(data).hexdigest())


def _is_code(file: Path) -> bool:
    """Not what Python, an editor or a system leaves beside it."""
    hidden = any(part.startswith(".") or part == "__pycache__" for part in file.parts)
    return not hidden and file.suffix not in (".pyc", ".pyo") and not file.name.endswith("~")


def _version(contents: dict[str, bytes]) -> str:
    found = hashlib.sha256()
    for place, content in contents.items():
        found.update(f"{place} {hashlib.sha256(content).hexdigest()}\n".encode())
    return f"{__version__}+h{found.hexdigest()[:12]}"  # the letter, for a number would lose its zeros


def _metadata() -> _Metadata:
    """In a checkout of setup.py, which may have changed since it was installed; else of what was installed."""
    if (_PACKAGE.parent / "setup.py").is_file():
        return _of_checkout(_PACKAGE.parent)
    try:
        found = distribution(_NAME)
    except PackageNotFoundError:
        raise InstallerError(
            f"{_PACKAGE} is neither a checkout nor installed, so no wheel can be made of it for workers"
        ) from None
    return _Metadata(found.read_text("METADATA") or "", found.read_text("entry_points.txt") or "")


def _of_checkout(root: Path) -> _Metadata:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-W", "ignore", "-c", _METADATA, place]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        made = next(Path(place).glob("*.dist-info"), None)
        if done.returncode or made is None:
            why = (done.stderr.strip().splitlines() or ["setuptools wrote nothing"])[-1]
            raise InstallerError(f"The wheel for workers cannot be built ({why}); try: {pip('setuptools')}")
        return _Metadata(
            (made / "METADATA").read_text(encoding="utf-8"), (made / "entry_points.txt").read_text(encoding="utf-8")
        )


def _record(contents: dict[str, bytes], own: str) -> bytes:
    lines = []
    for place, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{place},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own},,", ""]).encode()


def _zipped(contents: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, content in contents.items():
            entry = zipfile.ZipInfo(place, _DATE)
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    for other in path.parent.glob(f"{_NAME}-*.whl"):
        if other != path:
            other.unlink(missing_ok=True)
