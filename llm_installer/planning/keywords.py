"""Sentences about flags, said again in the words of Python: --epochs 3 is epochs=3 there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.options import Options
from llm_installer.planning.settings import Described, Setting, described

_INSTALL = {"name": str, "force": bool, "revision": str, "link": bool}
_MERGE = {"run": str, "lora": str, "to": str, "onto": str}
_PUSH = {"repo": str, "private": bool, "merged": bool, "gguf": bool, "dry_run": bool}
_EXPORT = {"out": str, "type": str, "no_lora": bool}
_EVAL = {"base": bool, "task": str, "tasks": str}
"""What the functions of api/ take beside settings."""
_SETTINGS = {one.name.replace("_", "-"): one for one in described(Options)} | {
    name.replace("_", "-"): Described(name, Setting("", ""), kind, None)
    for name, kind in (_INSTALL | _MERGE | _PUSH | _EXPORT | _EVAL).items()
}
_FLAG = re.compile(
    rf"--(?P<off>no-)?(?P<flag>{'|'.join(sorted(_SETTINGS, key=len, reverse=True))})(?![\w-])"
    r"(?:[ =](?P<value>'[^']*'|\"[^\"]*\"|(?!--)[^\s;)]*[^\s;,).:]))?"
)
_NUMBER = re.compile(r"-?\d[\d_.]*(e-?\d+)?%?")
_WRITTEN = re.compile(r"'.*'|\".*\"|~?\.{0,2}/.*|.*[=:\[].*|[\w-]+\.[a-z]+|[A-Z|]+", re.S)
"""What cannot be a word of the sentence: something in quotes, a path, pairs, the name of a file or of a value."""
_COMMAND = re.compile(r"(?:\S*llm-installer|\S*\.sh|\S*python\S* -m \w+|\bpip|\btorchrun) ")
_USUAL = {"data": "data_path"}
"""What lora_sft itself calls a setting."""


def in_python(sentence: str, given: Mapping[str, object] | None = None) -> str:
    """`sentence` with keywords in the place of flags; commands in it stay, for they are typed in a shell.

    `given` are the user's own keywords: settings are called by those.
    """
    own = {meant: (name, value) for name, value in (given or {}).items() if (meant := _setting(name))}
    return "".join(
        part if _COMMAND.match(part) else _FLAG.sub(lambda found: _said(found, own), part)
        for part in re.split(f"({_COMMAND.pattern}[^;]*)", sentence)
    )


def _setting(name: str) -> str:
    """The setting that a keyword means with the same values; empty where it has values of its own."""
    row = NAMES.get(name)
    return name if row is None else "" if row.values or row.form else row.own


def _said(found: re.Match[str], given: Mapping[str, tuple[str, object]]) -> str:
    """One flag, with its value where what follows is one."""
    off = found["off"] or ""
    one = _SETTINGS.get(off + found["flag"]) or _SETTINGS[found["flag"]]
    name, wrong = given.get(one.name, (_USUAL.get(one.name, one.name), None))
    value = found["value"]
    behind = found[0][found.end("value") - found.start() - len(value) - 1 :] if value else ""
    if one.kind is bool:
        return f"{name}={not off or one.name.startswith('no_')}{behind}"
    if value and _is_value(one, value, wrong):
        plain = one.kind is not str or value[0] in "'\"" or value.isdecimal() or value.isupper()
        return f"{name}={value}" if plain else f'{name}="{value}"'
    return name + behind


def _is_value(one: Described, word: str, given: object) -> bool:
    if one.setting.choices:
        return word in (*one.setting.choices, *dict(one.setting.synonyms))
    if one.kind is not str:
        return _NUMBER.fullmatch(word) is not None
    numbers = one.setting.metavar in ("N|all", "WHICH")
    return word == str(given) or _WRITTEN.fullmatch(word) is not None or (numbers and word.isdecimal())
