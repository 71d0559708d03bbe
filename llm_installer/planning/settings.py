"""How a setting is declared, and what becomes of that: click flags, checks of Python keywords, a docs table."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast, get_args, get_type_hints

import click
from click.shell_completion import CompletionItem

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import suggest
from llm_installer.planning.bounds import Filled, Number, Whole
from llm_installer.planning.names import Meant, truth
from llm_installer.planning.ranks import METAVAR as RANKS
from llm_installer.planning.ranks import Ranks

if TYPE_CHECKING:
    from typing_extensions import Unpack

Command = TypeVar("Command", bound=Callable[..., object])
Value = TypeVar("Value")
_LISTS = ("NAMES", "MAP")
"""What is several values separated by commas, by its metavar."""
_PATHS = {"PATH": "file", "FILE": "file", "DIR": "dir"}
"""What the Tab key of a shell offers, by the metavar."""
_COUNTS = ("N|all", "WHICH")
"""What is a word or a number, by its metavar."""
ON_OFF = ("on", "off")
"""The choices of a switch that may also be left to the plan."""


@dataclass(frozen=True)
class Setting:
    """How one field of Options appears to the user."""

    help: str
    group: str
    choices: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    optional_value: int | str | None = None
    """Value meant when the flag is given bare; of on and off it is on."""
    metavar: str | None = None
    several: bool = False
    """Whether a list is meant where it is separated by commas."""


class More(TypedDict, total=False):
    """What a setting may say beside its help and its group; the fields of Setting."""

    choices: tuple[str, ...]
    synonyms: tuple[tuple[str, str], ...]
    minimum: float
    maximum: float
    optional_value: int | str
    metavar: str
    several: bool


@dataclass(frozen=True)
class Described:
    """A setting with what its field says."""

    name: str
    setting: Setting
    kind: type
    default: object

    @property
    def switch(self) -> bool:
        """Whether it is on unless it is switched off."""
        return self.kind is bool and bool(self.default)

    @property
    def bare(self) -> int | str | None:
        """Its value where the flag is given without one; None where it needs one."""
        return ON_OFF[0] if self.setting.choices == ON_OFF else self.setting.optional_value


def setting(help: str, group: str, *, default: Value | None = None, **more: Unpack[More]) -> Value:
    """Declare one field of Options; its type is the annotation of the field."""
    # As dataclasses.field itself, this says that it returns the value that the field will have.
    return cast(Value, field(default=default, metadata={"setting": Setting(help, group, **more)}))


def settings(option: Field[object]) -> Setting:
    """The declaration behind a field."""
    found: Setting = option.metadata["setting"]
    return found


def flag(name: str) -> str:
    """The command-line spelling of a field."""
    return "--" + name.replace("_", "-")


def described(cls: type) -> Iterator[Described]:
    """Every setting of a class of settings, in order."""
    hints = get_type_hints(cls)
    for f in fields(cls):
        kind = next((t for t in get_args(hints[f.name]) if t is not type(None)), hints[f.name])
        yield Described(f.name, settings(f), kind, f.default)


def add_click_options(command: Command, cls: type, names: Collection[str] | None = None) -> Command:
    """Give a click command one option for each setting of `cls`, or for those of these names."""
    for one in reversed(list(described(cls))):
        if names is None or one.name in names:
            off = f"/--no-{one.name.replace('_', '-')}" if one.switch else ""
            option = click.option(f"{flag(one.name)}{off}", one.name, default=one.default, **_attributes(one))
            command = option(command)
    return command


def settings_table(cls: type) -> str:
    """The settings of `cls` as Markdown tables, one per group."""
    groups: dict[str, list[str]] = {}
    for one in described(cls):
        default = "chosen" if one.default is None else str(one.default)
        default = ("on" if one.default else "off") if one.kind is bool else default
        values = one.setting.metavar or " or ".join(one.setting.choices) or one.kind.__name__.upper()
        value = "" if one.kind is bool else f" {values}"
        row = f"| `{flag(one.name)}{value}` | {one.setting.help} | {default} |"
        groups.setdefault(one.setting.group, []).append(row)
    head = "| option | meaning | default |\n|---|---|---|"
    return "\n\n".join(f"### {group}\n\n{head}\n" + "\n".join(rows) for group, rows in groups.items())


def built(cls: Callable[..., Value], values: Mapping[str, object]) -> Value:
    """An object from values whose types were checked when they were read."""
    return cls(**values)


def from_keywords(cls: type, given: Iterable[Meant], others: Collection[str] = ()) -> dict[str, object]:
    """The values of settings by their names, from keywords. Raises UsageError for unknown ones, with the nearest of
    them and of `others`, and for what the command line would not have read."""
    known = [f.name for f in fields(cls)]
    values: dict[str, object] = {}
    for one in given:
        if one.name not in known:
            raise UsageError(f"There is no option {one.name!r}{suggest(one.name, [*known, *others])}")
        values[one.name] = checked(cls, one.name, one.value, one.called)
    return values


def checked(cls: type, name: str, value: object, called: str = "") -> object:
    """`value` as the command line would have read it; UsageError with the same words when it would not.

    `called` is the keyword by which the user gave it.
    """
    one = next(each for each in described(cls) if each.name == name)
    if value is None or (one.kind is bool and isinstance(value, bool)):
        return value
    parameter = click.Option([flag(name)], **_attributes(one))
    try:
        converted: object = parameter.type.convert(_typed(one, value), parameter, None)
    except click.UsageError as error:
        raise UsageError(f"{called or name}={value!r}: {error.message}") from None
    return converted


def _typed(one: Described, value: object) -> object:
    """What would be typed for a Python value. Raises click.UsageError where it is of another type than the setting."""
    if isinstance(value, bool) and (one.setting.choices == ON_OFF or one.setting.metavar == "WHICH"):
        return ON_OFF[not value]
    if isinstance(value, str) or one.setting.choices:
        return value
    if one.setting.metavar == RANKS and isinstance(value, list | tuple) and value:
        return ",".join(map(str, value))
    if one.kind is not str:
        if one.kind is bool and isinstance(value, int) and value in (0, 1):
            return bool(value)
        if one.kind is not bool and isinstance(value, Real) and not isinstance(value, bool):
            return value
        raise click.UsageError(
            f"this is {_type(value)}, and {'True or False' if one.kind is bool else 'a number'} is needed"
        )
    if isinstance(value, dict) and one.setting.metavar == "MAP":
        return ",".join(f"{key}={own}" for key, own in value.items())
    if isinstance(value, (list, tuple)) and (one.setting.several or one.setting.metavar in _LISTS):
        if value and all(isinstance(each, (str, os.PathLike)) for each in value):
            return ",".join(str(each) for each in value)
        raise click.UsageError("a list has to name something, and to hold texts only")
    if isinstance(value, os.PathLike) or (
        one.setting.metavar in _COUNTS and isinstance(value, int) and not isinstance(value, bool)
    ):
        return str(value)
    raise click.UsageError(f"this is {_type(value)}, and a text is needed")


def _type(value: object) -> str:
    return f"of type {type(value).__name__}"


class _Choice(click.Choice[str]):
    """A click choice that also accepts the old names of its values."""

    def __init__(self, choices: tuple[str, ...], synonyms: tuple[tuple[str, str], ...]) -> None:
        super().__init__(choices)
        self.synonyms = dict(synonyms)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        on = truth(value) if self.choices == ON_OFF else None
        named = self.synonyms.get(str(value), value) if on is None else ON_OFF[not on]
        return str(super().convert(named, param, ctx))


class _Attributes(TypedDict, total=False):
    """What click.Option is told."""

    help: str
    is_flag: bool
    flag_value: int | str
    metavar: str | None
    type: click.ParamType[object] | type
    shell_complete: Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _attributes(one: Described) -> _Attributes:
    declared, kind = one.setting, one.kind
    if kind is bool:
        return {"help": declared.help, "is_flag": True}
    more: _Attributes = {"help": declared.help, "metavar": declared.metavar, "type": kind}
    if declared.choices:
        more["type"] = _Choice(declared.choices, declared.synonyms)
    elif declared.minimum is not None:
        whole = Ranks if declared.metavar == RANKS else Whole
        more["type"] = (whole if kind is int else Number)(declared.minimum, declared.maximum)
    elif kind is str:
        more["type"] = Filled()
    if kind is str and declared.metavar in _PATHS:
        shell = _PATHS[declared.metavar]
        more["shell_complete"] = lambda ctx, param, incomplete: [CompletionItem(incomplete, type=shell)]
    if one.bare is not None:
        more["is_flag"], more["flag_value"] = False, one.bare
    return more
