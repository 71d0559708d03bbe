"""Names of other trainers on the command line: --num_epochs 3 is read as --epochs 3."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llm_installer.core.errors import UsageError
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.names import alike, translated, truth
from llm_installer.planning.options import Options
from llm_installer.planning.settings import described, flag

_OWN = {flag(one.name): one for one in described(Options)}
_SWITCHES = {one.name for one in _OWN.values() if one.kind is bool}
_NEGATIVE = re.compile(r"-[\d.]+")


def own_words(arguments: Sequence[str]) -> list[str]:
    """The arguments with every name that is another trainer's replaced by this program's, behind the others.

    Raises UsageError for what means nothing here, and for two names of one setting with different values.
    """
    plain, found, rest = _sorted(arguments)
    words: list[str] = []
    for one in translated(found, _typed):
        own = flag(one.name)
        before = _given(plain, own)
        if before is not None and not alike(before, one.value):
            raise UsageError(f"{_typed(one.called)} and {own} mean the same setting; give one of them")
        if before is not None:
            continue
        if one.name not in _SWITCHES:
            words += [own, str(one.value)]
        elif (on := truth(one.value)) is not False:
            words.append(own if on else f"{own}={one.value}")
    return [*plain, *words, *rest]


def typed_names(arguments: Sequence[str]) -> dict[str, str]:
    """What was typed for a setting, by its name here, where that was another trainer's. Raises as own_words does."""
    return {one.name: _typed(one.called) for one in translated(_sorted(arguments)[1], _typed)}


def _given(plain: Sequence[str], own: str) -> str | None:
    """The last value of an option among words of this program; None where it is not among them."""
    one, found = _OWN[own], None
    for word, after in zip(plain, [*plain[1:], ""], strict=False):
        if word.startswith(f"{own}="):
            found = word.partition("=")[2]
        elif word == own and (one.kind is bool or one.bare is not None):
            found = after if one.bare is not None and after and not after.startswith("-") else str(one.bare or True)
        elif word == own:
            found = after
    return found


def _sorted(arguments: Sequence[str]) -> tuple[list[str], dict[str, object], list[str]]:
    """(words of this program, values by names of others, what follows a bare --)."""
    plain: list[str] = []
    found: dict[str, object] = {}
    words = list(arguments)
    while words and words[0] != "--":
        word = words.pop(0)
        begin, equals, value = word.partition("=")
        # A word without a dash is a value, such as the name of a model.
        short = begin.startswith("-") and begin in NAMES
        name = begin if short else begin[2:].replace("-", "_") if begin.startswith("--") else ""
        own = _OWN.get(flag(name.removeprefix("no_"))) if name else None
        if own and own.kind is bool:
            plain += _switch(flag(name), own.switch, value, words)
        elif own:
            plain.append(flag(name) + equals + value)
            if not equals and own.bare is None:
                plain += words[:1]
                del words[:1]
        elif name in NAMES:
            said = value if equals else _value(name, words)
            if name in found and not alike(found[name], said):
                raise UsageError(f"{_typed(name)} is given twice; give it once")
            found[name] = said
        else:
            plain.append(word)
    return plain, found, words


def _switch(word: str, usual: bool, value: str, words: list[str]) -> list[str]:
    """A switch of this program, with the value that some trainers want behind it; `usual` where it is on by itself."""
    if not value and words and truth(words[0]) is not None:
        value = words.pop(0)
    on = truth(value or "true")
    if on is False:
        return [f"--no-{word[2:]}"] if usual else []
    return [word if on else f"{word}={value}"]


def _value(name: str, words: list[str]) -> object:
    """The value of a name that stands before `words`, taken from them."""
    row = NAMES[name]
    switch = row.own in _SWITCHES or any(isinstance(word, bool) for word in (*dict(row.values), *row.anyway))
    if switch:
        return words.pop(0) if words and truth(words[0]) is not None else True
    if words and (not words[0].startswith("-") or _NEGATIVE.fullmatch(words[0])):
        return words.pop(0)
    if row.own or row.anyway:
        raise UsageError(f"{_typed(name)} needs a value")
    return ""


def _typed(name: str, value: object = "") -> str:
    """A name and its value as they are typed."""
    shown = name if name.startswith("-") else flag(name)
    return shown if value in ("", True) else f"{shown} {value}"
