"""How a setting is declared, and what becomes of that: click flags, checks of Python keywords, a docs table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

import click

from llm_installer.core.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setting:
    """How one field of Options appears to the user."""

    help: str
    group: str
    choices: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    """Other keyword names accepted by the Python API."""
    minimum: float | None = None
    maximum: float | None = None
    optional_value: Any = None
    """Value meant when the flag is given bare."""
    metavar: str | None = None


def setting(help: str, group: str, *, default: Any = None, **more: Any) -> Any:
    """Declare one field of Options."""
    return field(default=default, metadata={"setting": Setting(help, group, **more)})


def settings(option: Field[Any]) -> Setting:
    """The declaration behind a field."""
    found: Setting = option.metadata["setting"]
    return found


def flag(name: str) -> str:
    """The command-line spelling of a field."""
    return "--" + name.replace("_", "-")


def add_click_options(command: Command, cls: type, names: Collection[str] | None = None) -> Command:
    """Give a click command one option for each setting of `cls`, or for those of these names."""
    for name, declared, kind, default in reversed(list(_described(cls))):
        if names is not None and name not in names:
            continue
        spelling = f"{flag(name)}/--no-{name.replace('_', '-')}" if kind is bool and default else flag(name)
        command = click.option(spelling, name, default=default, help=declared.help, **_click_type(declared, kind))(
            command
        )
    return command


def settings_table(cls: type) -> str:
    """The settings of `cls` as Markdown tables, one per group."""
    groups: dict[str, list[str]] = {}
    for name, declared, kind, default in _described(cls):
        shown = "chosen" if default is None else {True: "on", False: "off"}.get(default, default)
        value = "" if kind is bool else f" {declared.metavar or ' or '.join(declared.choices) or kind.__name__.upper()}"
        groups.setdefault(declared.group, []).append(f"| `{flag(name)}{value}` | {declared.help} | {shown} |")
    head = "| option | meaning | default |\n|---|---|---|"
    return "\n\n".join(f"### {group}\n\n{head}\n" + "\n".join(rows) for group, rows in groups.items())


def _described(cls: type) -> Iterator[tuple[str, Setting, type, Any]]:
    hints = get_type_hints(cls)
    for f in fields(cls):
        kind = next((t for t in get_args(hints[f.name]) if t is not type(None)), hints[f.name])
        yield f.name, settings(f), kind, f.default


class _Choice(click.Choice[str]):
    """A click choice that also accepts the old names of its values."""

    def __init__(self, choices: tuple[str, ...], synonyms: tuple[tuple[str, str], ...]) -> None:
        super().__init__(choices)
        self.synonyms = dict(synonyms)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(super().convert(self.synonyms.get(str(value), value), param, ctx))


def _click_type(declared: Setting, kind: type) -> dict[str, Any]:
    if kind is bool:
        return {"is_flag": True}
    more: dict[str, Any] = {"metavar": declared.metavar}
    if declared.choices:
        more["type"] = _Choice(declared.choices, declared.synonyms)
    elif declared.minimum is not None:
        bounds: Any = click.IntRange if kind is int else click.FloatRange
        more["type"] = bounds(declared.minimum, declared.maximum)
    else:
        more["type"] = kind
    if declared.optional_value is not None:
        more |= {"is_flag": False, "flag_value": declared.optional_value}
    return more


def checked(cls: type, option: Field[Any], value: Any) -> Any:
    """`value` as the command line would have read it; UsageError with the same words when it would not."""
    _, declared, kind, _ = next(d for d in _described(cls) if d[0] == option.name)
    if value is None or (kind is bool and isinstance(value, bool)):
        return value
    if isinstance(value, dict):
        value = ",".join(f"{name}={own}" for name, own in value.items())
    parameter = click.Option([flag(option.name)], **_click_type(declared, kind))
    try:
        return parameter.type.convert(value, parameter, None)
    except click.UsageError as error:
        raise UsageError(f"{option.name}={value!r}: {error.message}") from None


def suggest(word: str, known: list[str]) -> str:
    """`; did you mean ...?` for a mistyped name, empty where nothing is close."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
