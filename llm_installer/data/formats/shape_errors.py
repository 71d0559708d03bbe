"""The errors for records of an unknown or wrong format: what was found, what is closest, what to type next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.core.text import shortened
from llm_installer.data.formats.columns import TARGETS
from llm_installer.data.formats.format import Format, Shape
from llm_installer.data.formats.table import FORMATS
from llm_installer.data.formats.values import kind_of

_AS = {"": "", "list": " as a list", "turns": " as a list", "texts": " as a list of texts"}
_AS |= {"object": " as an object", "bool": " as true or false"}

_NAMED = 12
"""Keys of a record that a message names."""

# Named when no format is close.
_COMMON = ("alpaca", "openai", "qa")


def unknown_shape(record: object, origin: Origin) -> DataError:
    """The error for a record of no known format."""
    if not isinstance(record, Mapping):
        return DataError(
            f"{origin}: the record is {kind_of(record)} where text or an object with named keys is expected; "
            'write it as {"prompt": "...", "completion": "..."} or in another format'
        )
    near = _nearest({_folded(key): str(key) for key in record})
    named = "; ".join(f"{row.name} ({_keys(shape)})" for row, shape in near)
    return DataError(
        f"{origin}: no known format fits: {_found(record)}; the nearest are {named}; say which key is which with "
        f"--columns '{_columns(record, *near[0])}', and add --dataset-format NAME to read it as one of these"
    )


def wrong_shape(record: object, origin: Origin, forced: Format) -> DataError:
    """The error for a record that is not of the format the user named."""
    needed = ", or ".join(_keys(shape) for shape in forced.required)
    return DataError(
        f"{origin}: the format {forced.name} needs the keys {needed}, but {_found(record)}; "
        "omit --dataset-format to have the format detected"
    )


def wrong_columns(record: object, origin: Origin, absent: str) -> DataError:
    """The error for a record without a column that --columns names."""
    return DataError(f"{origin}: --columns names '{absent}', but {_found(record)}; give a key that the record has")


def _found(record: object) -> str:
    if not isinstance(record, Mapping):
        return f"the record is {kind_of(record)}"
    if not record:
        return "the record has no keys"
    named = ", ".join(shortened(repr(str(key)), 42) for key in list(record)[:_NAMED])
    return f"the record has the keys {named}" + (f" and {len(record) - _NAMED} more" if len(record) > _NAMED else "")


def _keys(shape: Shape) -> str:
    return " and ".join(key + _AS[kind] for key, kind in shape.items())


def _folded(key: object) -> str:
    return re.sub(r"\W+", "_", str(key).strip().lower())


def _nearest(there: Mapping[str, str]) -> list[tuple[Format, Shape]]:
    """The three nearest formats, each by its nearest spelling: the one with the largest share of keys in the record."""
    scored = sorted(_scores(there), key=lambda scored: scored[0])[:3]
    if not scored:
        return [(row, row.required[0]) for row in FORMATS if row.name in _COMMON]
    return [(row, shape) for _, row, shape in scored]


def _scores(there: Mapping[str, str]) -> Iterator[tuple[tuple[float, int, bool], Format, Shape]]:
    for row in FORMATS:
        common, shape = max(((sum(key in there for key in shape), shape) for shape in row.required), key=_share)
        if common:
            yield (-common / len(shape), -common, any(shape.values())), row, shape


def _share(counted: tuple[int, Shape]) -> float:
    return counted[0] / len(counted[1])


def _columns(record: Mapping[object, object], row: Format, shape: Shape) -> str:
    """What to type after --columns: the keys that are recognised, KEY for those that are not."""
    there = {_folded(key): str(key) for key in record}
    told = {target: there.get(_folded(row.columns.get(target, target))) for target in TARGETS}
    if told["messages"] or (told["text"] and "text" in shape):
        return "messages=" + _quoted(told["messages"]) if told["messages"] else "text=" + _quoted(told["text"])
    named = [target for target in TARGETS[:4] if told[target] or target in ("prompt", "answer")]
    return ",".join(f"{target}={_quoted(told[target])}" for target in named)


def _quoted(key: str | None) -> str:
    if key is None:
        return "KEY"
    return key if re.fullmatch(r"\w([\w .-]*\w)?", key) else '"' + key.replace('"', '""') + '"'
