"""Which files of a folder (or a zip) are data, and why the others are skipped."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from llm_installer.core.errors import DataError
from llm_installer.data.reading.arrow_rows import DATASET_DICT, STATE
from llm_installer.data.reading.patterns import folders, is_hidden
from llm_installer.data.reading.readers import READERS
from llm_installer.data.reading.rows import PARTS, data_suffix

MARKDOWN = "Markdown, used only when named"
HIDDEN = "hidden"
_DOCUMENTS = "readme|licen[cs]e|copying|notice|changelog|changes|contributing|authors|citation|requirements"
_SETTINGS = "dataset_infos?|dataset_dict|(adapter_|generation_|tokenizer_)?config|tokenizer|special_tokens_map|state"
# The first row whose pattern is found in the name, in lower case, wins.
_REASONS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"~$|\.(bak|orig|sw[op]|tmp|old|part|crdownload)$|^(#.*#|~\$.*)$", "a backup or unfinished copy"),
        (rf"^({_DOCUMENTS})(\.(md|txt|rst|text))?$", "a document about the data"),
        (rf"^({_SETTINGS})\.json$", "settings, not data"),
        (r"\.(png|jpe?g|gif|webp|bmp|tiff?|svg|mp[34]|wav|flac|ogg|webm|mov|avi|mkv)$", "a picture, sound or video"),
        (r"\.md(\.gz)?$", MARKDOWN),
    )
)
_SHOWN = 5


_PART = re.compile(r"(train(?:ing)?|valid(?:ation)?|val|dev|eval|test)(?=[-_.]|$)")


def part_of(name: str) -> str:
    """The split that the name of a file begins with: "train", "validation", "test", or "" where it names none."""
    said = _PART.match(PurePosixPath(name).name.lower())
    if said is None:
        return ""
    return "test" if said[1] == "test" else PARTS[said[1]]


def skip_reason(path: PurePosixPath | Path) -> str:
    """Why a file that was not named itself is not data, judged by its name; "" if it is data."""
    name = path.name.lower()
    if is_hidden(path.name):
        return HIDDEN
    for pattern, reason in _REASONS:
        if pattern.search(name):
            return reason
    known = data_suffix(name) in READERS or name.endswith(".zip")
    return "" if known else "not a kind of data file"


def member_reason(name: str) -> str:
    """skip_reason for a member of a zip, by the names of its folders too."""
    path = PurePosixPath(name)
    if any(map(is_hidden, path.parts)):
        return HIDDEN
    return "a zip inside a zip" if path.suffix.lower() == ".zip" else skip_reason(path)


def is_saved(folder: Path) -> bool:
    """Whether datasets.save_to_disk wrote the folder."""
    names = ((DATASET_DICT,), (STATE, "dataset_info.json"))
    return any(all(os.path.isfile(folder / name) for name in needed) for needed in names)


def find_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The data files (and saved datasets) in a folder and below, and the skipped files with reasons; both sorted."""
    found: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for here in folders(folder, lambda below: not is_saved(below)):
        if is_saved(here):
            found.append(here)
            continue
        for path in (here / name for name in os.listdir(here)):
            if path.is_dir():
                continue
            if reason := file_reason(path):
                skipped.append((path, reason))
            else:
                found.append(path)
    return sorted(found), sorted(skipped)


def file_reason(path: Path) -> str:
    """skip_reason for a path on disk, which may be a broken link or not a regular file too."""
    reason = skip_reason(path)
    if reason or path.is_file():
        return reason
    return "not a regular file" if path.exists() else "a link to a file that does not exist"


def skipped_note(shown: str, skipped: list[tuple[str, str]]) -> list[str]:
    """One note on what was skipped, or none; hidden files are not mentioned. Takes pairs of a name and a reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped:
        if reason != HIDDEN:
            by_reason.setdefault(reason, []).append(name)
    if not by_reason:
        return []
    return [f"{shown}: skipped " + "; ".join(f"{name_list(names)} ({why})" for why, names in by_reason.items())]


def name_list(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def nothing_found(shown: str, skipped: list[tuple[str, str]]) -> DataError:
    """The error for a folder, zip or pattern without data files."""
    seen = skipped_note("", skipped)
    why = f" ({seen[0].removeprefix(': ')})" if seen else ""
    return DataError(f"{shown} contains no data files{why}; data files end in {', '.join(READERS)}, .zip or .gz")
