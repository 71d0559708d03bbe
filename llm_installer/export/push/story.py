"""The story of a push: stage what is sent, search it, send it as one commit, fetch it back and compare.

Run as: llm-installer push MODEL --repo OWNER/NAME
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llm_installer.core.adapter_info import INFO
from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.files import unwritable, write_text
from llm_installer.core.home import cache_dir, llm_home
from llm_installer.core.hub_base import HubBase, hub_base
from llm_installer.core.json_file import read_object
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.record import RunRecord
from llm_installer.core.startup import no_telemetry
from llm_installer.core.text import counted
from llm_installer.core.voice import Voice
from llm_installer.data.prepare import read
from llm_installer.export.chosen import Chosen, chosen_adapter
from llm_installer.export.engines import Adapter, read_adapter
from llm_installer.export.push.card import Told, card, licence_of
from llm_installer.export.push.leaks import ROW, VOCABULARY, Leak, readable, search, secrets_here
from llm_installer.export.push.request import (
    ADAPTER,
    GGUF,
    MERGED,
    README,
    File,
    Preview,
    Pushed,
    PushRequest,
    refuse_words,
    repo_name,
)
from llm_installer.export.push.rows import RowSearch
from llm_installer.export.push.send import repository, send
from llm_installer.export.push.stage import stage_adapter, stage_model, staged_files
from llm_installer.export.target import default_name
from llm_installer.install.model_record import read_record
from llm_installer.install.staging import directory_lock
from llm_installer.planning.options import Options
from llm_installer.runs.report import before_and_after

_UNREAD = "The rows that were trained on cannot be read any more, so their text was not searched for."
_FOREIGN = "Of which rows this was made is not known here, so their text was not searched for."
_SHOWN = 3
"""Findings that an error names."""
YOU = "YOUR-NAME"
"""The owner in a preview where only a hub could tell."""


@dataclass(frozen=True)
class _Work:
    """What is pushed, before anything is made of it."""

    folder: ModelDir
    chosen: Chosen | None
    """None for a model that an adapter was merged into before."""
    kind: str
    base: HubBase | None

    @property
    def name(self) -> str:
        """Of the repository, without its owner."""
        made_by = self.chosen.name if self.chosen else ""
        name = repo_name(default_name(self.folder.root.resolve().name, made_by))
        return f"{name}-{self.kind}" if self.kind != ADAPTER and self.chosen else name


def push(folder: ModelDir, request: PushRequest, voice: Voice) -> Preview | Pushed:
    """Send an adapter, or a model, to a hub; with `dry_run` only show what would be sent.

    Raises UsageError for words that make no sense, AdapterError and ModelError for what cannot be sent, and for a file
    that holds what must not leave; HubError for what a hub or a network refuses. Nothing is committed then, unless the
    error is that it arrived otherwise than it was sent.
    """
    no_telemetry()
    refuse_words(request)
    work = _chosen(folder, request)
    repo = (request.repo or f"{YOU}/{work.name}") if request.dry_run else repository(request.repo, work.name)
    with _workplace(work.name) as place:
        staged = place / "staged"
        with voice.waiting("Gathering the files"):
            told = _staged(work, repo, staged)
        if work.kind != ADAPTER:
            _converted(work, request, place, voice)
        text = card(replace(told, files=tuple(file.name for file in staged_files(staged))))
        write_text(staged / README, text)
        files = staged_files(staged)
        with voice.waiting("Searching them for what must not leave"):
            notes = _searched(work, staged, files, repo)
        if request.dry_run:
            return Preview(repo, work.kind, request.private, text, files, notes)
        sent = send(staged, files, (repo, work.kind, request.private), place / "back", voice)
    if sent.replaced:
        notes += (f"{counted(len(sent.replaced), 'older file')} with weights is deleted: {', '.join(sent.replaced)}.",)
    return Pushed(repo, sent.url, sent.commit, work.kind, files, sent.proof, notes)


def _chosen(folder: ModelDir, request: PushRequest) -> _Work:
    """What is meant. Raises AdapterError where there is no adapter."""
    record = read_record(folder.info)
    made_of = record.lineage
    if made_of and not (request.run or request.lora or folder.lora.exists()):
        base = HubBase(made_of.base_id, made_of.base_revision) if "/" in made_of.base_id[1:] else None
        if made_of.base_id.startswith(("/", ".", "~")):
            base = None
        return _Work(folder, None, GGUF if request.gguf else MERGED, base)
    return _Work(folder, chosen_adapter(folder, request.run, request.lora, "push"), request.kind, hub_base(folder.info))


@contextmanager
def _workplace(name: str) -> Iterator[Path]:
    """An empty folder for one push, whatever a killed one has left there; nothing is left in the end."""
    with directory_lock(f"push-{name}", "--run", f"pushing {name}"):
        place = cache_dir() / "push" / name
        shutil.rmtree(place, ignore_errors=True)
        try:
            (place / "staged").mkdir(parents=True)
        except OSError as error:
            raise unwritable(place, error) from None
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _staged(work: _Work, repo: str, staged: Path) -> Told:
    """Stage an adapter, or nothing yet of a model; and say what the card is made of."""
    chosen = work.chosen
    row = chosen.row if chosen else None
    picture = _picture(work)
    info: dict[str, object] = {}
    adapter = Adapter({}, (), "")
    if chosen:
        info = read_object(chosen.lora / INFO) if (chosen.lora / INFO).is_file() else {}
        adapter = read_adapter(chosen.lora, work.folder)
        if work.kind == ADAPTER:
            stage_adapter(chosen.lora, work.base, staged, picture)
    report = row.run.report.read_text(encoding="utf-8") if row and row.run.report.is_file() else ""
    return Told(
        kind=work.kind,
        repo=repo,
        base=work.base,
        model=work.folder.root.resolve().name,
        licence=licence_of(work.folder.weights),
        info=info,
        adapter=adapter,
        compared=before_and_after(report),
        picture=picture.name if picture and work.kind != GGUF else "",
    )


def _picture(work: _Work) -> Path | None:
    """The curves of the run, where there are some."""
    file = work.chosen.row.run.history_png if work.chosen and work.chosen.row else None
    return file if file and file.is_file() else None


def _converted(work: _Work, request: PushRequest, place: Path, voice: Voice) -> None:
    """Stage the model with the adapter merged in, or the GGUF file that is made of both."""
    folder, chosen, staged = work.folder, work.chosen, place / "staged"
    lora = str(chosen.lora) if chosen else None
    if work.kind == GGUF:
        from llm_installer.export.kinds import KINDS, ExportRequest, export_as

        name = default_name(work.name.removesuffix(f"-{GGUF}"), KINDS[GGUF].types[0])
        out = str(place / f"{name}.gguf")
        made = export_as(folder, ExportRequest(GGUF, out, lora=lora, no_lora=lora is None), voice)
        made.file.replace(staged / made.file.name)
        return
    if lora:
        from llm_installer.export.merge import merge
        from llm_installer.export.request import MergeRequest

        folder = merge(folder, MergeRequest(lora=lora, to=str(place / work.name)), voice).folder
    stage_model(folder.weights, staged, _picture(work))


def _searched(work: _Work, staged: Path, files: tuple[File, ...], repo: str) -> tuple[str, ...]:
    """Search what is staged. Returns what could not be searched for; raises ModelError for what was found."""
    row = work.chosen.row if work.chosen else None
    places = (llm_home(), work.folder.root, *((row.run.root,) if row else ()), Path.cwd())
    secrets = secrets_here(places, f"{repo} {work.base.id if work.base else ''}")
    leaks: list[Leak] = []
    same = {file.name for file in files if _of_base(staged / file.name, work.folder.weights / file.name)}
    for file in files:
        leaks += search(staged / file.name, file.name, secrets, file.name in same)
    rows, note = _rows_found(work, [staged / file.name for file in files if file.name not in same], same)
    leaks += rows
    if leaks:
        every = {(leak.file, leak.kind): leak.said for leak in leaks}.values()
        more = f", and there is more of it ({len(every) - _SHOWN:,})" if len(every) > _SHOWN else ""
        raise ModelError(f"Nothing was sent: {', '.join([*every][:_SHOWN])}{more}; remove that, and push again")
    return (note,) if note else ()


def _of_base(file: Path, original: Path) -> bool:
    """Whether a file is as the base has it."""
    return original.is_file() and filecmp.cmp(file, original, shallow=False)


def _rows_found(work: _Work, files: list[Path], same: set[str]) -> tuple[list[Leak], str]:
    """Files that hold text of the rows, and a sentence where there are no rows to look for. Those that are the `same`
    as in the base hold none."""
    row = work.chosen.row if work.chosen else None
    record = RunRecord.read(row.run) if row else None
    if record is None:
        return [], _FOREIGN
    try:
        given = read(Options.from_kwargs(**record.options), Path(record.base)).loaded
    except InstallerError:  # moved, changed or deleted since
        return [], _UNREAD
    texts = ((file.name, text) for file in files for text, _ in readable(file))
    base = (path for path in work.folder.weights.iterdir() if path.is_file() and _says_something(path, same))
    found = RowSearch(texts, (text for path in base for text, _ in readable(path)))
    leaks = [
        Leak(file, ROW, f"from {origin}")
        for source in (given.train, given.validation or ())
        for file, origin in found.first(source).items()
    ]
    return leaks, ""


def _says_something(path: Path, same: set[str]) -> bool:
    """Whether a file of the base can have words in common with what is searched."""
    if VOCABULARY.fullmatch(path.name):
        return path.name not in same
    return path.suffix in (".json", ".jinja", ".txt", ".md", "")
