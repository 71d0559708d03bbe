"""How a byte-level tokenizer cuts text before it merges, under the names that llama.cpp knows.

A name is chosen by the structure of the tokenizer and then proven: what llama.cpp does under it is done here to texts
of every kind, and compared with what the tokenizer itself does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import regex

from llm_installer.core.errors import ModelError
from llm_installer.core.text import shortened

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_QWEN35 = (
    rf"(?:{_SHORT})|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WHOLE_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
"""How the expressions of newer tokenizers begin, as their own files write it."""
_DIGITS3 = rf"{_WHOLE_WORDS}\p{{L}}+|\p{{N}}{{1,3}}|{_ENDS}"
_DIGITS1 = rf"{_WHOLE_WORDS}\p{{L}}+|\p{{N}}|{_ENDS}"
_MARKS = rf"{_WHOLE_WORDS}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Pre:
    """A way to cut text."""

    name: str
    expressions: tuple[str, ...]
    """llama.cpp's: each cuts what those before it have left, and what none matches is a piece, too."""
    structure: tuple[str, ...]
    """Of the tokenizer, as structure_of says it."""
    ignores_merges: bool = False
    """Whether a piece that is a token is not cut any further."""


PRES = (
    Pre("gpt-2", (_GPT2,), ("ByteLevel",)),
    Pre("smollm", (r"\p{N}", _GPT2), ("Digits", "ByteLevel")),
    Pre("llama-bpe", (rf"(?:{_SHORT})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_ENDS}",), (_DIGITS3,), True),
    Pre("smaug-bpe", (rf"(?:{_SHORT})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_ENDS}",), (_DIGITS3,)),
    Pre("qwen2", (rf"(?:{_SHORT})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_ENDS}",), (_DIGITS1,)),
    Pre("qwen35", (_QWEN35,), (_MARKS,)),
)


def structure_of(pre: object) -> tuple[str, ...]:
    """The parts of a pre-tokenizer of tokenizer.json, an expression as its text; empty where one has odd settings."""
    parts = pre.get("pretokenizers") if isinstance(pre, dict) and pre.get("type") == "Sequence" else [pre]
    found = [_part(each) for each in parts] if isinstance(parts, list) else [""]
    if not all(found):
        return ()
    # ByteLevel that does not cut only spells bytes as characters.
    return tuple(each for each in found if each != "spelling")


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return ""
    if part.get("type") == "ByteLevel" and not part.get("add_prefix_space"):
        return "ByteLevel" if part.get("use_regex", True) else "spelling"
    if part.get("type") == "Digits" and part.get("individual_digits"):
        return "Digits"
    pattern = part.get("pattern")
    if part.get("type") == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        return str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""
    return ""


def find_pre(pre: object, ignores_merges: bool) -> Pre:
    """The name for a pre-tokenizer of tokenizer.json. Raises ModelError where llama.cpp has none."""
    structure = structure_of(pre)
    found = [each for each in PRES if each.structure == structure and structure]
    if not found:
        shown = shortened(" + ".join(structure) or str(pre), 120)
        known = ", ".join(each.name for each in PRES)
        raise ModelError(
            f"The model's tokenizer cuts text in a way ({shown}) that is none of those which can be written as GGUF "
            f"({known})"
        )
    agrees = [each for each in found if each.ignores_merges == ignores_merges]
    if not agrees:
        raise ModelError(
            f"The model's tokenizer cuts text as {found[0].name} does, but has ignore_merges = {ignores_merges}, which "
            "llama.cpp does not do under that name"
        )
    return agrees[0]


def prove(pre: Pre, own: PreTokenizer, texts: Iterable[str]) -> None:
    """Raise ModelError where the tokenizer cuts one of the texts in another way than llama.cpp does."""
    for text in texts:
        mine = [piece for piece, _ in own.pre_tokenize_str(text)]
        theirs = [spelled(piece) for piece in pieces(pre.expressions, text)]
        if mine != theirs:
            raise ModelError(
                f"The model's tokenizer looks like {pre.name}, but cuts {shortened(text, 60)!r} in another way, so it "
                "cannot be written as GGUF"
            )


def pieces(expressions: Sequence[str], text: str) -> list[str]:
    """A text as llama.cpp cuts it."""
    found = [text] if text else []
    for expression in expressions:
        found = [piece for each in found for piece in _cut(expression, each)]
    return found


def _cut(expression: str, text: str) -> list[str]:
    found, end = [], 0
    for match in regex.finditer(expression, text):
        found += [text[end : match.start()], match.group()]
        end = match.end()
    return [piece for piece in [*found, text[end:]] if piece]


@cache
def _characters() -> tuple[str, ...]:
    """The character by which GPT-2 spells each byte: printable ones themselves, the others from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte if byte in plain else next(others)) for byte in range(256))


def spelled(text: str) -> str:
    """The bytes of a text, each as a character."""
    return "".join(_characters()[byte] for byte in text.encode("utf-8", "surrogatepass"))
