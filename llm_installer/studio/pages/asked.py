"""What the pages before a training are about: a file of the store, a model and options; and what was found of them."""

from __future__ import annotations

import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from starlette.datastructures import FormData, UploadFile

from llm_installer.core.errors import DataError, UsageError
from llm_installer.studio.api.receiving import room
from llm_installer.studio.context import Studio
from llm_installer.studio.insight import Values
from llm_installer.studio.options import checked
from llm_installer.studio.pages.models import installed_names
from llm_installer.studio.pages.wrong import wrong_file
from llm_installer.studio.store import files
from llm_installer.studio.store.tables import File

_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8})?\.[A-Za-z0-9]{1,8}\Z")
_WITH_WORD = re.compile(r"(?:norm|patience) ([\d.]+)|(\d[\d,]*) (?:tokens?|steps?|rows?)")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
QUESTION, ANSWER = "question_column", "answer_column"
_OWN = ("model", "prompts", QUESTION, ANSWER)
"""Fields of the form that are no options of `train`."""
KEPT = 64
"""Answers that are kept, so that a page that is opened again need not wait."""


@dataclass
class Known:
    """What was found out about files, models and options; only to be quick."""

    answers: OrderedDict[str, Values] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)
    busy: dict[str, Lock] = field(default_factory=dict)

    def once(self, make: Callable[[], Values], *key: object) -> Values:
        """What is known, else what `make` finds, which several who ask at the same time wait for."""
        with self.lock:
            alone = self.busy.setdefault(repr(key), Lock())
        with alone:
            return self.get(*key) or self.put(make(), *key)

    def get(self, *key: object) -> Values | None:
        """What is known."""
        with self.lock:
            return self.answers.get(repr(key))

    def put(self, found: Values, *key: object) -> Values:
        """Keep an answer, unless it is an error, which may be over by the next time."""
        if "error" not in found:
            with self.lock:
                self.answers[repr(key)] = found
                while len(self.answers) > KEPT:
                    self.answers.popitem(last=False)
        return found


@dataclass(frozen=True)
class Asked:
    """A file, a model and options: what a plan is made for."""

    file: File
    place: Path
    model: str
    options: dict[str, str]
    prompts: str = ""


def asked_of(studio: Studio, file_id: str, given: Mapping[str, str]) -> Asked:
    """What a page is about. Raises Unknown for a file that is not there, UsageError for a model that is not,
    BadOption for an option that a job may not have."""
    with studio.store.reading() as session:
        file = files.find(session, file_id)
    names = installed_names()
    model = given.get("model") or (names[0] if names else "")
    if model not in names:
        raise UsageError(f"The model {model!r} is not installed; choose another, or install it first")
    own = {name: _bare(value.strip()) for name, value in given.items() if name not in _OWN and value.strip()}
    if not own.get("columns") and (pair := _columns(given)):
        own["columns"] = pair
    checked(own)  # before a plan is made, too: none may read or write other files
    return Asked(file, named(studio.folder, file), model, own, given.get("prompts", "").strip())


def _bare(value: str) -> str:
    """A number without the word that the page shows it with, as in "32 tokens"; anything else as it is."""
    found = _WITH_WORD.fullmatch(value)
    return (found[1] or found[2]).replace(",", "") if found else value


def _columns(given: Mapping[str, str]) -> str:
    """The two columns that were chosen, as the option has them; empty where not both were."""
    chosen = [given.get(name, "").strip().replace('"', "") for name in (QUESTION, ANSWER)]
    return 'prompt="{}",answer="{}"'.format(*chosen) if all(chosen) else ""


def named(folder: Path, file: File) -> Path:
    """A file of the store with an ending that says what it is, and no other part of its name: that may be anything.
    Raises Gone."""
    content = files.content_of(folder, file)
    place = folder / files.LOOKED_AT / file.id / f"data{ending(file.name)}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(content, place)
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            place.symlink_to(content)
    return place


def in_its_name(found: Values, asked: Asked) -> Values:
    """What was found, with the file called as its owner calls it; it was read under another name."""
    if not asked.place.suffix:
        return found
    return {name: _renamed(value, asked.place.name, asked.file.name) for name, value in found.items()}


def _renamed(value: object, name: str, own: str) -> object:
    if isinstance(value, list):
        return [_renamed(one, name, own) for one in value]
    return value.replace(name, own) if isinstance(value, str) else value


def ending(name: str) -> str:
    """What the name of a file says of its content: `.csv`, `.jsonl.gz`, or nothing."""
    found = _SUFFIX.search(name)
    if found is None:
        return ""
    last = found[0].lower()
    return last if last.endswith(_PACKED) else f".{last.rpartition('.')[2]}"


def given(form: FormData) -> bool:
    """Whether a form has a file or a text."""
    sent = form.get("file")
    return (isinstance(sent, UploadFile) and bool(sent.filename)) or bool(str(form.get("text") or "").strip())


def keep(studio: Studio, form: FormData) -> File:
    """The file that was sent, or the text that was pasted, as a file of the store. Raises DataError, and Problem
    where it would fill the disk."""
    sent, text = form.get("file"), str(form.get("text") or "")
    received = files.receiving(studio.folder)
    try:
        if isinstance(sent, UploadFile) and sent.filename:
            room(studio, sent.size or 0)
            with received.open("wb") as out:
                shutil.copyfileobj(sent.file, out, 1 << 20)
            name = sent.filename
            if why := wrong_file(received, name):
                raise DataError(why)
        elif text.strip():
            content = text.encode("utf-8", "replace")
            room(studio, len(content))
            received.write_bytes(content)
            name = f"pasted{_kind(text)}"
        else:
            raise DataError("There is nothing to look at yet; choose a file, paste some examples, or name a dataset")
        return files.keep(studio.store, studio.folder, received, name)
    finally:
        received.unlink(missing_ok=True)


def _kind(text: str) -> str:
    """What a pasted text is, by its first line."""
    first = text.strip().partition("\n")[0].strip()
    if first.startswith("["):
        return ".json"
    if first.startswith("{"):
        return ".jsonl" if first.endswith("}") else ".json"
    return ".tsv" if "\t" in first else ".csv" if "," in first and len(first) < 200 else ".txt"
