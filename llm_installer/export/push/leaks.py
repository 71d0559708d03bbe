"""What must not leave: local paths, names of users and computers, keys, searched for in every file before it is sent.

A finding says which file and what kind; it never repeats what was found.
"""

from __future__ import annotations

import getpass
import json
import mmap
import os
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATH, USER, HOST, KEY, ROW = "a local path", "a user name", "the name of this computer", "a key or token", "a row"
_LONG = 8
"""Bytes from which on a text is searched for in tensors, too: there shorter ones are found by chance."""
_KEYS = (
    (b"hf_", rb"hf_[A-Za-z0-9]{30,}"),
    (b"sk-", rb"sk-[A-Za-z0-9_-]{20,}"),
    (b"gh", rb"gh[pousr]_[A-Za-z0-9]{30,}"),
    (b"github_pat_", rb"github_pat_\w{40,}"),
    (b"glpat-", rb"glpat-[\w-]{20,}"),
    (b"AKIA", rb"AKIA[0-9A-Z]{16}"),
    (b"AIza", rb"AIza[\w-]{35}"),
    (b"xox", rb"xox[abposr]-[A-Za-z0-9-]{10,}"),
    (b"eyJ", rb"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"),
    (b"-----BEGIN ", rb"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"),
    (b"://", rb"://[\w.%+-]{1,80}:[!-.0-9;-?A-~]{4,80}@[\w.-]{3}"),
)
_HOMES = (
    (b"/home/", rb"(?<![\w.-])/home/[\w.-]{2,}"),
    (b"/Users/", rb"(?<![\w.-])/Users/[\w.-]{2,}"),
    (b":\\", rb"[A-Za-z]:\\+Users\\+\w{2,}"),
)
_PATTERNS = tuple(
    (kind, start, re.compile(rest)) for kind, rows in ((KEY, _KEYS), (PATH, _HOMES)) for start, rest in rows
)
"""(kind, the bytes that it has, what there must be around them): the second is found fast, and rarely."""
_BEFORE = 2
"""Bytes before those by which a pattern is found."""
_ROOTS = (
    "root home Users mnt media tmp var opt srv scratch work workspace workspaces data content kaggle private Volumes"
)
_ANY_PATH = re.compile(
    rf"(?<![\w./:<-])/(?:{'|'.join(_ROOTS.split())})/[\w.~-]+|(?<!\w)[A-Za-z]:\\+\w[\w .-]*\\|file:///|(?<![\w/])~/[\w.]"
)
_SHARED_NAMES = frozenset((
    "root", "user", "users", "admin", "administrator", "ubuntu", "debian", "ec2-user", "runner", "jovyan", "docker",
    "nobody", "home", "model", "models", "train", "localhost", "localdomain", "default", "test", "host", "server",
    "worker", "node", "computer",
))  # fmt: skip
"""Names that say nothing about anybody."""
_SECRET = re.compile(r"token|secret|password|passwd|api_?key|credential", re.I)
"""What the names of environment variables say whose values are nobody's business."""
_PNG = b"\x89PNG\r\n\x1a\n"
VOCABULARY = re.compile(r"tokenizer\.json|vocab\..*|merges\.txt|.*\.model|.*\.tiktoken")
"""Names of files that hold words of every kind."""


@dataclass(frozen=True)
class Leak:
    """Something in a file that must not be sent."""

    file: str
    kind: str
    where: str
    """A line, or a part of the file."""

    @property
    def said(self) -> str:
        """The end of a sentence."""
        return f"{self.file} holds {self.kind} ({self.where})"


@dataclass(frozen=True)
class Secrets:
    """What is known here and must not be sent."""

    texts: tuple[tuple[str, str], ...]
    """(kind, text) of paths and keys, which are found anywhere."""
    names: tuple[tuple[str, str], ...]
    """(kind, name) of people and computers, which are found as whole words only."""


def secrets_here(places: tuple[Path, ...], public: str) -> Secrets:
    """What this machine and its user are called; `places` are the folders that files were made in, `public` what
    everybody shall read, such as the name of the repository."""
    folders = {str(form) for place in (*places, Path.home()) for form in (place.absolute(), _real(place))}
    texts = [(PATH, folder) for folder in sorted(folders) if folder.count(os.sep) > 1]
    texts += [(KEY, value) for name, value in os.environ.items() if _SECRET.search(name) and _is_key(value)]
    host = socket.gethostname()
    names = [(USER, _user()), (USER, Path.home().name), (HOST, host), (HOST, host.partition(".")[0])]
    known = {word.lower() for word in re.findall(r"[\w-]+", public)} | _SHARED_NAMES
    return Secrets(
        tuple(texts),
        tuple({(kind, n): 0 for kind, n in names if len(n) > 2 and n.lower() not in known and n[0] != "."}),
    )


def _real(place: Path) -> Path:
    return Path(os.path.realpath(place))


def _user() -> str:
    with suppress(OSError, KeyError, ImportError):  # nobody may have this number
        return getpass.getuser()
    return ""


def _is_key(value: str) -> bool:
    return len(value) >= 12 and not value.startswith(("/", "~")) and " " not in value


def search(file: Path, name: str, secrets: Secrets, known: bool = False) -> Iterator[Leak]:
    """What is in a file; `known` says that its words are not ours, as those of a vocabulary or of the base are not."""
    with _content(file) as data:
        for kind, where in _anywhere(data, secrets):
            yield Leak(name, kind, where)
    for text, part in readable(file):
        for kind, where in _in_text(text, secrets, known or bool(VOCABULARY.fullmatch(name))):
            yield Leak(name, kind, part or where)


def _content(file: Path) -> mmap.mmap | memoryview:
    """The bytes of a file, without reading what is not looked at."""
    if not file.stat().st_size:
        return memoryview(b"")
    with file.open("rb") as data:
        return mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)


def _anywhere(data: mmap.mmap | memoryview, secrets: Secrets) -> Iterator[tuple[str, str]]:
    """(kind, where) of what is long enough to be no coincidence in any bytes."""
    if isinstance(data, memoryview):
        return
    for kind, text in secrets.texts:
        needle = text.encode()
        if len(needle) >= _LONG and (at := data.find(needle)) >= 0:
            yield kind, f"byte {at:,}"
    for kind, start, pattern in _PATTERNS:
        at = data.find(start)
        while at >= 0:
            if pattern.search(data[max(0, at - _BEFORE) : at + 400]):
                yield kind, f"byte {at:,}"
                break
            at = data.find(start, at + 1)


def _in_text(text: str, secrets: Secrets, known: bool) -> Iterator[tuple[str, str]]:
    """(kind, where) of what is found in a text that somebody wrote; of a `known` one only what is certain."""
    found = [(kind, text.find(secret)) for kind, secret in secrets.texts if not known or len(secret) >= _LONG]
    raw = text.encode("utf-8", "surrogatepass")
    for kind, _, pattern in _PATTERNS:
        if one := pattern.search(raw):
            found.append((kind, len(raw[: one.start()].decode("utf-8", "replace"))))
    if not known:
        found += [(PATH, one.start()) for one in _ANY_PATH.finditer(text)][:1]
        for kind, name in secrets.names:
            one_name = re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text, re.I)
            found += [(kind, one_name.start())] if one_name else []
    for kind, at in found:
        if at >= 0:
            yield kind, f"line {text.count(chr(10), 0, at) + 1:,}"


def readable(file: Path) -> Iterator[tuple[str, str]]:
    """(text, what it is) of everything in a file that people or programs read as text; empty for the file itself."""
    with file.open("rb") as data:
        head = data.read(8)
        if head == _PNG:
            yield from ((text, "text in the picture") for text in _png_texts(data.read()))
        elif file.suffix == ".safetensors" and len(head) == 8:
            yield _spoken(data.read(min(struct.unpack("<Q", head)[0], 1 << 27))), "its metadata"
        elif file.suffix != ".gguf":
            with suppress(UnicodeDecodeError):
                text = (head + data.read()).decode("utf-8")
                yield text, ""
                if file.suffix == ".json":
                    yield _spoken(text.encode()), "a text in it"


def _spoken(raw: bytes) -> str:
    """The texts of JSON without its escapes, a line each; what is no JSON is taken as it is."""
    try:
        value = json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")
    return "\n".join(_texts(value))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _png_texts(data: bytes) -> Iterator[str]:
    """The texts of a PNG: of its tEXt, zTXt and iTXt chunks, and of every other that is not the picture."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body, at = data[at + 8 : at + 8 + length], at + 12 + length
        if kind not in (b"IDAT", b"IHDR", b"PLTE"):
            yield body.decode("latin-1")
            for packed in re.finditer(rb"\0(?=x)", body):  # what zlib has packed begins with an x
                with suppress(zlib.error):
                    yield zlib.decompress(body[packed.end() :]).decode("utf-8", "replace")
