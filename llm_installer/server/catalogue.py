"""What is served, by the names that requests use: the base, every run, and `lora` as what ./lora is at that moment.

The runs are looked at on the disk, so that new ones come and removed ones go without a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Protocol

from llm_installer.core.adapter_info import Stamp, read_adapter_info, stamp_of
from llm_installer.core.errors import AdapterError, InstallerError, ModelError
from llm_installer.core.model_info import fingerprint, read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import loss_text, shortened
from llm_installer.core.version import __version__
from llm_installer.inference.engine.request import BASE, Listener, Request, Ticket
from llm_installer.inference.load import INSTEAD
from llm_installer.runs.listing import RunRow, list_runs
from llm_installer.runs.versions import STAGES, meant
from llm_installer.server.problems import Problem, unknown_model
from llm_installer.server.voices import ServedVoice, Voice, voice_of

LORA = "lora"
Said = Callable[[str], None]
Told = Callable[[Sequence[str]], None]


class Serves(Protocol):
    """What the catalogue asks of the engine."""

    positions: int

    @property
    def served(self) -> Mapping[str, ServedVoice]: ...
    def add(self, name: str, lora: Path) -> None: ...
    def remove(self, name: str) -> None: ...
    def submit(self, request: Request, listener: Listener) -> Ticket: ...


@dataclass(frozen=True)
class Entry:
    """One served model."""

    id: str
    """What requests call it."""
    inside: str
    """What the engine calls it."""
    root: str
    """What it stands for: another id for `lora`, else its own."""
    words: str
    """Its score; empty where none is known."""
    base_loss: float | None
    best_loss: float | None
    created: int
    """Seconds since 1970."""
    voice: Voice
    fingerprint: str


@dataclass(frozen=True)
class _Loaded:
    inside: str
    stamp: Stamp


class Catalogue:
    """The models of one directory. Every method may wait for the disk, so none is called on the loop."""

    def __init__(self, engine: Serves, folder: ModelDir, say: Said, tell: Told) -> None:
        """`say` hears a sentence about each run that cannot be served, once; `tell` the ids of those that are in
        memory, whenever they change."""
        self._engine, self._folder, self._say, self._tell = engine, folder, say, tell
        self.name = folder.root.name
        self.skipped: dict[tuple[Path, Stamp], str] = {}
        """Why adapters are not served, a sentence each."""
        self._loaded: dict[Path, _Loaded] = {}
        self._inside = {BASE}
        """Names in the engine, those that were used once included: a request may still mean what it had by one."""
        self._places: dict[str, Path] = {}
        self._entries: dict[tuple[str, Path], Entry] = {}
        """Entries as they were made last, by the part of a name behind the base's, and the adapter."""
        self._lock = Lock()
        self._voices: dict[str, Voice] = {}
        self._base = fingerprint(folder.weights)
        self._created = int((folder.weights / "config.json").stat().st_mtime)
        self._info = read_model_info(folder.weights, self.name)

    @property
    def rows_file(self) -> Path:
        """Where the page keeps training rows."""
        return self._folder.root / "rows.jsonl"

    def entries(self) -> list[Entry]:
        """Everything that is served now; what is new on the disk is loaded, what has gone from it is let go."""
        with self._lock:
            rows = self._rows()
            self._forget_all_but({row.adapter.resolve() for row in rows.values()} | {*self._lora()})
            found = [self._base_entry()]
            found += [entry for id, row in rows.items() if (entry := self._entry(id, row.adapter, row))]
            found += [entry for lora in self._lora() if (entry := self._lora_entry(lora, rows))]
            return found

    def find(self, name: str) -> Entry:
        """What a request means by `name`. Raises Problem for what is not served."""
        if name == self.name:
            return self._base_entry()
        id = name.removeprefix(f"{self.name}:")
        if id in STAGES:
            id = meant(self._folder, id) or id
        if name != id and (known := self._unchanged(id)):
            return known
        with self._lock:
            rows = self._rows()
            found, paths = self._named(id, rows) if name != id else (None, [])
        if found:
            return found
        raise self._unknown(name, paths)

    def _named(self, id: str, rows: Mapping[str, RunRow]) -> tuple[Entry | None, list[Path]]:
        """(the entry of a run, or of what ./lora is, if it can be served; where its adapter lies)."""
        if id in rows:
            return self._entry(id, rows[id].adapter, rows[id]), [rows[id].adapter]
        lora = self._lora() if id == LORA else []
        return next((entry for each in lora if (entry := self._lora_entry(each, rows))), None), lora

    def _unchanged(self, id: str) -> Entry | None:
        """The entry that was made last, where its adapter is what it was: runs are not listed for every request."""
        path = self._folder.lora.resolve() if id == LORA else self._places.get(id)
        loaded, entry = (self._loaded.get(path), self._entries.get((id, path))) if path else (None, None)
        same = path and loaded and entry and entry.inside == loaded.inside and stamp_of(path) == loaded.stamp
        return entry if same else None

    def _unknown(self, name: str, paths: list[Path]) -> Problem:
        for path in paths:
            if (stamp := stamp_of(path)) and (why := self.skipped.get((path.resolve(), stamp))):
                return Problem(404, why, param="model", code="model_not_found")
        return unknown_model(shortened(name, 100), [entry.id for entry in self.entries()])

    def _rows(self) -> dict[str, RunRow]:
        """Runs with an adapter by the names that requests may use for them."""
        return {row.run.id: row for row in list_runs(self._folder) if row.usable and row.run.id != LORA}

    def _lora(self) -> list[Path]:
        """What ./lora is now, if it is."""
        return [self._folder.lora.resolve()] if self._folder.lora.is_dir() else []

    def _base_entry(self) -> Entry:
        voice = self._voice(BASE, None)
        return Entry(
            self.name, BASE, self.name, "the base", None, None, self._created, voice, self._printed(voice, self._base)
        )

    def _lora_entry(self, lora: Path, rows: Mapping[str, RunRow]) -> Entry | None:
        run = next((row for row in rows.values() if row.adapter.resolve() == lora), None)
        entry = self._entry(LORA, lora, run)
        if entry is None or run is None:
            return entry
        self._entries[LORA, lora] = replace(entry, root=f"{self.name}:{run.run.id}")
        return self._entries[LORA, lora]

    def _entry(self, id: str, path: Path, row: RunRow | None) -> Entry | None:
        """The entry of an adapter, loaded where it is not yet or has changed; None where it cannot be served."""
        path, stamp = path.resolve(), stamp_of(path)
        if stamp is None or (path, stamp) in self.skipped:
            return None
        known = self._loaded.get(path)
        if known is None or known.stamp != stamp:
            known = self._load(path, stamp, row)
            if known is None:
                return None
        base, best = (row.base_loss, row.best_loss) if row else (None, None)
        name = f"{self.name}:{id}"
        voice = self._voice(known.inside, path)
        self._places[id] = path
        self._entries[id, path] = Entry(
            id=name,
            inside=known.inside,
            root=name,
            words=f"loss {loss_text(base)} -> {loss_text(best)}" if best is not None else "",
            base_loss=base,
            best_loss=best,
            created=stamp[0] // 1_000_000_000,
            voice=voice,
            fingerprint=self._printed(voice, f"{self._base}{path}{stamp}"),
        )
        return self._entries[id, path]

    def _load(self, path: Path, stamp: Stamp, row: RunRow | None) -> _Loaded | None:
        stem = row.run.id if row else LORA
        inside = next(name for name in _versions(stem) if name not in self._inside)
        self._inside.add(inside)
        try:
            read_adapter_info(path, self._folder)
            self._engine.add(inside, path)
        except (AdapterError, ModelError) as error:
            self._skip(path, stamp, error)
            return None
        before, self._loaded[path] = self._loaded.get(path), _Loaded(inside, stamp)
        if before:
            self._let_go(before)
        self._tell_of_runs()
        return self._loaded[path]

    def _tell_of_runs(self) -> None:
        """A run's adapter lies in its folder, or where --output said; then nothing of the run is in memory."""
        self._tell([path.parent.name for path in self._loaded if path.parent.parent == self._folder.runs.resolve()])

    def _skip(self, path: Path, stamp: Stamp, error: InstallerError) -> None:
        why = str(error).removesuffix(f"; {INSTEAD}")  # which names options that a server does not have
        self.skipped[path, stamp] = why
        self._say(f"Not served: {why}")

    def _forget_all_but(self, wanted: set[Path]) -> None:
        for path in [path for path in self._loaded if path not in wanted or stamp_of(path) is None]:
            self._let_go(self._loaded.pop(path))
            self._tell_of_runs()

    def _let_go(self, loaded: _Loaded) -> None:
        self._voices.pop(loaded.inside, None)
        self._engine.remove(loaded.inside)

    def _voice(self, inside: str, path: Path | None) -> Voice:
        """What renders prompts for a model, and reads its tokens."""
        if inside not in self._voices:
            self._voices[inside] = voice_of(self._engine.served[inside], self._info.vocab_size)
        return self._voices[inside]

    def _printed(self, voice: Voice, weights: str) -> str:
        """A short print of everything that decides an answer besides the request."""
        what = "\0".join((weights, voice.encoder.template.source, __version__))
        return f"fp_{sha256(what.encode('utf-8', 'replace')).hexdigest()[:12]}"


def _versions(stem: str) -> Iterator[str]:
    """The name, and others where it is taken."""
    yield stem
    yield from (f"{stem}#{number}" for number in count(2))
