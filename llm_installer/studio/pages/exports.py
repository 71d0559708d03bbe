"""Downloads that a command has to make first: a merged model, and a file for llama.cpp."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse

from llm_installer.core.paths import ModelDir, Run
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import children
from llm_installer.studio.pages.archive import zipped
from llm_installer.studio.pages.children import Child
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.keys import address, existing, folder_of
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.store.refusals import NotAllowed, Unknown

EXPORTS = "exports"
"""The folder of the data folder with a folder for each run of which something was made."""
MERGED, GGUF = "merged", "gguf"


@dataclass(frozen=True)
class Kind:
    """Something that can be made of a run."""

    name: str
    title: str
    why: str
    made: str
    """The name of the file or folder."""
    words: tuple[str, ...]
    """The command, without the run and the place."""
    out: str
    """The option that says where."""


KINDS = {
    MERGED: Kind(
        MERGED, "Merged model", "the model with what it learned inside, for everything that reads Hugging Face models",
        "merged", ("merge",), "--to",
    ),
    GGUF: Kind(
        GGUF, "GGUF", "one file for llama.cpp, Ollama, LM Studio and other programs on a desk",
        "model.gguf", ("export", "--to=gguf"), "--out",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Making:
    """One of them, as the page shows it."""

    kind: Kind
    state: str
    """none, running, failed or made."""
    line: str
    share: int | None
    bytes: int


def router_of(studio: Studio) -> APIRouter:
    """The routes of these downloads."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/runs/{key:path}/made")
    def progress(key: str) -> Response:
        run = existing(studio, key)
        return drawn("exports.html", key=key, exports=listed(studio, run), again=False)

    @router.post("/runs/{key:path}/make/{name}")
    def make(key: str, name: str) -> Response:
        run, kind = existing(studio, key), _kind(name)
        if not (run.adapter / "adapter_config.json").is_file():
            raise NotAllowed("This run has no adapter that something could be made of; choose another run")
        _begin(studio, run, kind)
        return to(f"{address(key)}#h-files")

    @router.post("/runs/{key:path}/unmake/{name}")
    def unmake(key: str, name: str) -> Response:
        run, kind = existing(studio, key), _kind(name)
        child = _child(studio, run, kind)
        child.end()
        child.forget()
        _remove(_place(studio, run, kind))
        return to(f"{address(key)}#h-files")

    @router.get("/runs/{key:path}/made/{name}")
    def made(key: str, name: str) -> Response:
        run, kind = existing(studio, key), _kind(name)
        place = _place(studio, run, kind)
        if _child(studio, run, kind).code != 0 or not place.exists():
            raise Unknown(f"There is no {kind.title} of this run yet; make it first")
        called = f"{folder_of(run).root.name}-{run.id}"
        if kind.name == GGUF:
            return FileResponse(place, filename=f"{called}.gguf", media_type="application/octet-stream")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(called)}-merged.zip"}
        return StreamingResponse(_zipped(place), media_type="application/zip", headers=headers)

    return router


def listed(studio: Studio, run: Run) -> list[Making]:
    """What can be made of a run, and what was."""
    if not (run.adapter / "adapter_config.json").is_file():
        return []
    return [_making(studio, run, kind) for kind in KINDS.values()]


def forget(studio: Studio, run: Run) -> None:
    """Delete everything that was made of a run."""
    for kind in KINDS.values():
        _child(studio, run, kind).end()
    shutil.rmtree(_folder(studio, run), ignore_errors=True)


def _making(studio: Studio, run: Run, kind: Kind) -> Making:
    child, place = _child(studio, run, kind), _place(studio, run, kind)
    if not child.pid[0]:
        return Making(kind, "none", "", None, 0)
    code, lines = child.code, child.lines
    if code is None:
        return Making(kind, "running", lines[-1] if lines else "Loading what it takes", children.share_of(lines), 0)
    if code == 0 and place.exists():
        return Making(kind, "made", "", 100, _bytes(place))
    said = next((line for line in reversed(lines) if line.startswith("Error")), "It ended without a word")
    return Making(kind, "failed", for_page(said.removeprefix("Error: ")), None, 0)


def _begin(studio: Studio, run: Run, kind: Kind) -> None:
    child = _child(studio, run, kind)
    if child.alive or (child.code == 0 and _place(studio, run, kind).exists()):
        return
    empty = studio.folder / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    _folder(studio, run).mkdir(parents=True, exist_ok=True)
    _remove(_place(studio, run, kind))
    command, *more = kind.words
    words = [command, str(folder_of(run).root), f"--run={run.id}", *more, f"{kind.out}={_place(studio, run, kind)}"]
    children.begin(kind.title, child.place, words, empty)


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise Unknown(f"A run cannot be made into {name!r}")
    return KINDS[name]


def _folder(studio: Studio, run: Run) -> Path:
    """Of what is made of a run; its name says nothing, since that of a run may be anything."""
    return studio.folder / EXPORTS / sha256(str(run.root).encode("utf-8", "replace")).hexdigest()[:24]


def _child(studio: Studio, run: Run, kind: Kind) -> Child:
    return Child(kind.title, _folder(studio, run) / kind.name)


def _place(studio: Studio, run: Run, kind: Kind) -> Path:
    return _folder(studio, run) / kind.made


def _zipped(place: Path) -> Iterator[bytes]:
    """The weights of a merged model with its tokenizer; the rest of its directory is of no use elsewhere."""
    return zipped(ModelDir(place).weights)


def _bytes(place: Path) -> int:
    files = [place] if place.is_file() else [one for one in ModelDir(place).weights.rglob("*") if one.is_file()]
    return sum(file.stat().st_size for file in files)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
