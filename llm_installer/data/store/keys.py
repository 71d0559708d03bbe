"""What examples are recognised by: a hash of the prompt, which its variants share, and a hash of the whole example."""

from __future__ import annotations

import re
import unicodedata

import xxhash

from llm_installer.core.examples import Example


class _Folding(dict[int, int | None]):
    """A translation table, filled as characters are met: punctuation and space are deleted."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        folds = not character.isalnum() if code < 128 else unicodedata.category(character)[0] in "PZC"
        self[code] = None if folds else code
        return self[code]


_FOLDING = _Folding()
_ASCII_LOWER = bytes(range(256)).lower()
_ASCII_FOLDED = bytes(code for code in range(128) if not chr(code).isalnum())
# Digits as 0, what folds as a space: a quick test whether anything can stand between two numbers.
_ASCII_SHAPE = bytes(48 if chr(code).isdigit() else 32 if code in _ASCII_FOLDED else 97 for code in range(128)) + bytes(
    128
)
_BETWEEN_NUMBERS = re.compile(r"(\d)([\W_]+)(?=\d)")


def normalise(text: str) -> bytes:
    """`text` as UTF-8 without what does not change its meaning: case, width, punctuation and space."""
    if text.isascii():
        folded = text.encode().translate(_ASCII_LOWER, _ASCII_FOLDED)
        if not folded or folded.isalpha() or b"0 " not in text.encode().translate(_ASCII_SHAPE):
            return folded
        return _BETWEEN_NUMBERS.sub(_sign, text).encode().translate(_ASCII_LOWER, _ASCII_FOLDED)
    text = unicodedata.normalize("NFKC", text).casefold()
    return _BETWEEN_NUMBERS.sub(_sign, text).translate(_FOLDING).encode()


def _sign(found: re.Match[str]) -> str:
    """What stands between two numbers has a meaning: 7 + 2 is not 7 - 2, 1.5 is not 15, and 1 23 is not 12 3."""
    number, between = found.groups()
    bare = between.strip()
    joins = len(bare) == 1 and (bare == between or bare not in ".,:;")
    return f"{number}s{ord(bare) if joins else 32}s"


def prompt_key(example: Example) -> int:
    """A 64-bit hash that all variants of one prompt share. Without a prompt it is the answer's, or all would be one
    group."""
    turns = example.messages if example.kind == "text" else example.messages[:-1]
    asks = any([turn.role != "system" and turn.content and not turn.content.isspace() for turn in turns])
    if not example.images and not asks:
        turns = example.messages
    text = "\n".join([turn.content for turn in turns])
    folded = normalise(text) or text.encode()
    if example.images:
        folded = "\n".join(example.images).encode() + b"\n" + folded
    return xxhash.xxh3_64_intdigest(folded)


def row_key(example: Example) -> int:
    """A 64-bit hash of everything that is trained on: two examples share it only when they are identical.

    Raises UnicodeEncodeError for half a surrogate pair.
    """
    return xxhash.xxh3_64_intdigest(row_bytes(example))


def row_bytes(example: Example) -> bytes:
    """Everything that is trained on, as one run of bytes. Raises UnicodeEncodeError for half a surrogate pair."""
    parts = [example.kind, example.tools, *example.images]
    for turn in example.messages:
        parts += (turn.role, turn.content, turn.tool_calls)
        if not turn.supervised or turn.tool_call_id or turn.reasoning_content:
            parts += (f"{turn.supervised}", turn.tool_call_id, turn.reasoning_content)
    return "\x1f".join(parts).encode()
