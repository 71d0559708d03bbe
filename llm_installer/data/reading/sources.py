"""From the text after --data to the files, zip members and dataset splits that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from llm_installer.core.errors import DataError
from llm_installer.core.text import counted
from llm_installer.data.reading.archives import broken, zip_members
from llm_installer.data.reading.arrow_rows import STATE, saved_splits
from llm_installer.data.reading.folders import (
    MARKDOWN,
    file_reason,
    find_files,
    is_saved,
    member_reason,
    name_list,
    nothing_found,
    part_of,
    skipped_note,
)
from llm_installer.data.reading.hub import hub_sources, is_hub_id
from llm_installer.data.reading.not_found import not_found
from llm_installer.data.reading.patterns import matches
from llm_installer.data.reading.readers import READERS, known_suffixes
from llm_installer.data.reading.rows import Source, data_suffix
from llm_installer.data.reading.splits import choose_splits

__all__ = ["Source", "find_sources"]

_ELSEWHERE = {
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".docx": "save it as plain text",
    ".pdf": "save its text as .txt",
    ".html": "save its text as .txt",
    ".tar": "unpack it and give the folder",
    ".tgz": "unpack it and give the folder",
    ".7z": "unpack it and give the folder",
    ".bz2": "unpack it with bunzip2",
    ".xz": "unpack it with unxz",
    ".zst": "unpack it with unzstd",
    ".arrow": "give the folder that save_to_disk wrote",
}
"""What to do with well-known kinds of files that cannot be read."""

Found = tuple[list[Source], list[str]]


def find_sources(data: str, base: Path) -> Found:
    """Everything that `data` names, sorted by name, without duplicates; and notes for the user.

    A path that exists wins over any other reading of it. Relative paths are below `base`. Raises DataError.
    """
    base = Path(os.path.abspath(base))
    found: list[Source] = []
    notes: list[str] = []
    try:
        for piece in _pieces(data, base):
            sources, more = _piece_sources(piece, base)
            found += sources
            notes += more
    except PermissionError as error:
        raise broken(_shown(Path(error.filename), base), error) from None
    if not found:
        raise DataError("--data is empty; give a file, a folder, a pattern, or several separated by commas")
    kept, duplicates = _without_duplicates(sorted(found, key=lambda source: source.name))
    return kept, notes + duplicates


def _pieces(data: str, base: Path) -> Iterator[str]:
    """The parts of a comma-separated list; the longest run that exists or matches is one part, commas included."""
    words = data.split(",")
    while words:
        for end in range(len(words), 0, -1):
            joined = ",".join(words[:end])
            names = (joined, joined.strip())
            piece = next((name for name in names if name and (_existing(name, base) or matches(name, base))), "")
            if piece or end == 1:
                break
        if piece := piece or joined.strip():
            yield piece
        words = words[end:]


def _piece_sources(piece: str, base: Path) -> Found:
    path = _existing(piece, base)
    if path:
        return _path_sources(path, base)
    if matched := matches(piece, base):
        return _matched(piece, matched, base)
    if "://" in piece:
        raise DataError(f"{piece} is a web address; download the file first, for example with: curl -LO {piece}")
    head, _, split = piece.rpartition(":")
    place = _existing(head, base) if head else None
    if place:
        if not place.is_dir() or not is_saved(place):
            raise DataError(f'{head} has no splits to choose from; give it without ":{split}"')
        return _saved(place, _shown(place, base), split)
    if _looks_like_path(piece, base) or not is_hub_id(piece) or os.path.lexists(base / piece):
        raise DataError(f"{not_found(piece, base)}; correct the path")
    return hub_sources(piece, not_found(piece, base))


def _existing(name: str, base: Path) -> Path | None:
    path = base / os.path.expanduser(name)
    try:
        path.stat()
    except PermissionError:
        raise
    except (OSError, ValueError):  # a name that is too long, a loop of links, a NUL byte: nothing of that name exists
        return None
    if ".." not in path.parts:
        return path
    tidy = Path(os.path.normpath(path))
    return tidy if tidy.exists() and tidy.samefile(path) else path


def _path_sources(path: Path, base: Path) -> Found:
    """The file, zip or folder at a path that was given itself."""
    shown = _shown(path, base)
    if path.is_dir():
        return _saved(path, shown, "") if is_saved(path) else _folder(path, shown, base)
    suffix = data_suffix(path.name)
    if suffix not in READERS and suffix != ".zip":
        advice = _ELSEWHERE.get(suffix) or _ELSEWHERE.get(path.suffix.lower())
        known = f"known endings are {known_suffixes()}"
        raise DataError(f"{shown} is not a kind of file that can be read; {advice or known}")
    if not path.is_file():
        raise DataError(f"{shown} is not a regular file; save its content to a file first")
    return _file(path, shown)


def _file(path: Path, shown: str) -> Found:
    try:
        path.open("rb").close()
    except OSError as error:
        raise broken(shown, error) from None
    if path.suffix.lower() != ".zip":
        return [Source(path, shown)], []
    members = [(name, member_reason(name)) for name in zip_members(path, shown)]
    skipped = [(name, reason) for name, reason in members if reason]
    found = [Source(path, f"{shown}!{name}", member=name) for name, reason in members if not reason]
    if not found:
        raise nothing_found(shown, skipped)
    return found, skipped_note(shown, skipped)


def _folder(path: Path, shown: str, base: Path) -> Found:
    files, skipped = find_files(path)
    not_used = [(str(file.relative_to(path)), reason) for file, reason in skipped]
    parts = {file: part_of(file.name) for file in files if file.is_file()}
    if "train" not in parts.values():
        return _several(shown, files, not_used, base)
    tests = [file for file in files if parts.get(file) == "test"]
    not_used += [(str(file.relative_to(path)), "a test set by its name") for file in tests]
    sources, notes = _several(shown, [file for file in files if file not in tests], not_used, base)
    held_out = {str(file): "validation" for file, part in parts.items() if part == "validation"}
    if held_out:
        names = name_list([str(Path(file).relative_to(path)) for file in held_out])
        notes.append(f"{shown}: used for validation, not for training, by its name: {names}")
    return [replace(source, part=source.part or held_out.get(str(source.path), "")) for source in sources], notes


def _matched(pattern: str, matched: list[Path], base: Path) -> Found:
    """What a pattern matched: folders stand for the files in them, unless ** has matched those already."""
    files: list[Path] = []
    skipped: list[tuple[str, str]] = []
    for match in matched:
        shown = _shown(match, base)
        if match.is_dir():
            below, not_data = ([], []) if "**" in pattern else find_files(match)
            files += below
            skipped += [(_shown(file, base), reason) for file, reason in not_data]
        elif (reason := file_reason(match)) and not (reason == MARKDOWN and PurePosixPath(pattern).suffix == ".md"):
            skipped.append((shown, reason))
        else:
            files.append(match)
    return _several(pattern, files, skipped, base)


def _several(shown: str, files: list[Path], skipped: list[tuple[str, str]], base: Path) -> Found:
    if not files:
        raise nothing_found(shown, skipped)
    found: list[Source] = []
    notes: list[str] = []
    for file in files:
        name = _shown(file, base)
        sources, more = _saved(file, name, "") if file.is_dir() else _file(file, name)
        found += sources
        notes += more
    names = name_list([_shown(file, base) for file in files])
    used = f"{shown}: using {counted(len(files), 'file')}: {names}"
    return found, [used, *skipped_note(shown, skipped), *notes]


def _saved(path: Path, shown: str, asked: str) -> Found:
    splits = saved_splits(path, shown)
    if not splits:
        if asked:
            raise DataError(f'{shown} is a single dataset without splits; give it without ":{asked}"')
        return [Source(path, shown)], []
    chosen, notes = choose_splits(splits, asked, shown)
    if gone := next((split for split, _ in chosen if not (path / split / STATE).is_file()), ""):
        raise DataError(f"{shown} is damaged: its split {gone} is missing; save the dataset again with save_to_disk")
    return [Source(path / split, f"{shown}:{split}", split=split, part=part) for split, part in chosen], notes


def _without_duplicates(sources: list[Source]) -> Found:
    """Each source once, however often and under whatever names it was given; and notes about those."""
    first: dict[object, Source] = {}
    again: dict[str, list[str]] = {}
    for source in sources:
        key = (source.hub, source.config, source.split) if source.hub else (*_inode(source.path), source.member)
        kept = first.setdefault(key, source)
        if kept is not source:
            again.setdefault(kept.name, []).append(source.name)
    notes = []
    for name, others in again.items():
        aliases = [other for other in others if other != name]
        notes.append(
            f"{name} is used once, although it was given as {name_list(aliases)} too"
            if aliases
            else f"{name} is used once, although it was given more than once"
        )
    return list(first.values()), notes


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _shown(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) and path != base else str(path)


def _looks_like_path(piece: str, base: Path) -> bool:
    """Whether only a path can be meant: by how it begins, by its slashes, or by a suffix, even a misspelt one."""
    if piece.startswith((".", "/", "~")) or piece.endswith("/") or piece.count("/") > 1 or "\\" in piece:
        return True
    suffix = data_suffix(piece.partition(":")[0])
    if suffix in READERS or suffix in _ELSEWHERE or suffix in (".zip", ".gz"):
        return True
    return re.fullmatch(r"\.[a-z]{2,7}", suffix) is not None and os.path.isdir((base / piece).parent)
