"""Dataclasses from the plain values of a JSON file: each value is checked against the type of its field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from llm_installer.core.errors import TrainingError

Made = TypeVar("Made")

_WORDS: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read_dataclass(kind: type[Made], values: object, file: str, place: str = "") -> Made:
    """The dataclass that dataclasses.asdict and strict JSON made `values` of.

    Lists become tuples, and null becomes infinity in fields of type float, since JSON has no word for it. A field that
    is missing takes its default. `file` and `place`, the dotted name of this object within it, are for errors.

    Raises TrainingError, which names the field, for a value of another type, for a missing field without a default, and
    for a field that this version does not know: it changed what the file means.
    """
    if not isinstance(values, Mapping):
        raise _wrong(file, place, "an object", values)
    hints, made = get_type_hints(kind), {}
    known = {f.name: f for f in _fields(kind)}
    for name in values:
        if name not in known:
            raise TrainingError(
                f"{file} has the field {_dotted(place, name)}, which this version does not know; "
                "it was written by a newer one: update LLM Installer and try again"
            )
    for name, field in known.items():
        if name in values:
            made[name] = _checked(hints[name], values[name], file, _dotted(place, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise TrainingError(f"{file} lacks the field {_dotted(place, name)}; the file is damaged, start a new run")
    make: Callable[..., Made] = kind
    return make(**made)


def _fields(kind: object) -> tuple[dataclasses.Field[object], ...]:
    assert isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return dataclasses.fields(kind)


def _checked(kind: object, value: object, file: str, place: str) -> object:
    """The value as a field of type `kind` holds it."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return read_dataclass(kind, value, file, place)
    if origin is tuple:
        return _tuple(inner, value, file, place)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(file, place, "an object", value)
        return {str(name): _checked(inner[1], each, file, _dotted(place, name)) for name, each in value.items()}
    if origin is Literal:
        if value not in inner:
            raise _wrong(file, place, " or ".join(map(str, inner)), value)
        return value
    return _plain(kind, value, file, place)


def _plain(kind: object, value: object, file: str, place: str) -> object:
    if kind is float and value is None:
        return math.inf
    fits: tuple[type, ...] = (int, float) if kind is float else (kind,) if isinstance(kind, type) else ()
    # True is an int to Python, and not to anybody else.
    if not isinstance(value, fits) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(file, place, _WORDS[kind], value)
    return value


def _tuple(inner: tuple[object, ...], value: object, file: str, place: str) -> tuple[object, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(file, place, "a list", value)
    kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(value):
        raise _wrong(file, place, f"a list of {len(kinds)}", value)
    return tuple(
        _checked(kind, each, file, f"{place}[{i}]") for i, (kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _dotted(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _wrong(file: str, place: str, wanted: str, value: object) -> TrainingError:
    where = f"{place} in {file}" if place else file
    return TrainingError(f"{where} must be {wanted}, not {value!r}; the file is damaged, start a new run")
