"""What other trainers call settings, one row for each name: what it is here, or what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from llm_installer.core.errors import UsageError
from llm_installer.planning.name_rows import NAMES, Name

Shown = Callable[[str, object], str]
"""How a name and its value are written where they were given."""
TRUTH = {
    word: on for on, words in ((True, "true t yes y on 1"), (False, "false f no n off 0")) for word in words.split()
}
"""What is written for True and False, in lower case."""
_HALVES = ("bf16", "fp16")
"""Two switches elsewhere, one setting here: neither means float32."""


@dataclass(frozen=True)
class Meant:
    """A setting that was given, perhaps by another name."""

    called: str
    """The name by which it was given."""
    name: str
    value: object


def keyword(name: str, value: object) -> str:
    """A name and its value as Python keywords are written."""
    return f"{name}={value!r}"


def translated(given: Mapping[str, object], shown: Shown = keyword) -> list[Meant]:
    """`given` by the names of this program, in the same order; names that no row has stay as they are.

    What is done anyway is left out. Raises UsageError for what means nothing here, with what to write instead, and
    where two names say different things about one setting.
    """
    found: dict[str, Meant] = {}
    for one in _meanings(_precision(given, shown), shown):
        before = found.get(one.name)
        if before and one.called in NAMES and NAMES[one.called].joins:
            one = Meant(before.called, one.name, f"{before.value},{one.value}")
        elif before and not alike(before.value, one.value):
            both = " and ".join(_written(each, given, shown) for each in (before, one))
            raise UsageError(f"{both} mean the same setting; give one of them")
        found[one.name] = one
    return [one if one.called in given else replace(one, called=_half(given)) for one in found.values()]


def truth(value: object) -> bool | None:
    """True or False, in Python or as it is typed; None for everything else."""
    return TRUTH.get(str(value).strip().lower()) if isinstance(value, (bool, int, str)) else None


def alike(one: object, other: object) -> bool:
    """Whether two values, in Python or as they are typed, say the same."""
    return _said(one) == _said(other)


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={own}" for key, own in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    text = str(value)
    try:
        return str(float(text))
    except ValueError:
        return text if (on := truth(text)) is None else str(on)


def _written(one: Meant, given: Mapping[str, object], shown: Shown) -> str:
    """A setting as the user gave it."""
    called = one.called if one.called in given else _half(given)
    return shown(called, given[called])


def _half(given: Mapping[str, object]) -> str:
    """What is to be named where both halves were said as one."""
    return next(name for name in _HALVES if name in given)


def names_table() -> str:
    """The rows as a Markdown table, for docs/reference/other-names.md."""
    rows = [f"| `{row.name}` | {_here(row)} |" for row in NAMES.values()]
    return "\n".join(["| elsewhere | here |", "|---|---|", *rows])


def _meanings(given: Mapping[str, object], shown: Shown) -> Iterator[Meant]:
    rows = {called: NAMES[called] for called in given if called in NAMES}
    # A column that is read by its name anyway has to be named beside one that is not.
    joined = {row.own for called, row in rows.items() if row.joins and not _among(given[called], row.anyway)}
    for called, value in given.items():
        row = rows.get(called)
        if row is None:
            yield Meant(called, called, value)
        elif value is not None and (
            not _among(value, row.anyway) or (row.joins and not row.optional and row.own in {*joined, *given})
        ):
            yield Meant(called, row.own, _here_called(row, value, shown))


def _here_called(row: Name, value: object, shown: Shown) -> object:
    """The value under the name of this program. Raises UsageError where it has none."""
    for word, own in row.values:
        if _among(value, (word,)):
            return own
    if not row.own or row.otherwise:
        raise UsageError(f"{shown(row.name, value)}: {row.otherwise}")
    return row.form.format(value) if row.form else value


def _precision(given: Mapping[str, object], shown: Shown) -> dict[str, object]:
    """`given` with both halves said as one: those that are off mean something only where none is on."""
    halves = [name for name in _HALVES if given.get(name) is not None]
    on = [name for name in halves if _among(given[name], (True,))]
    if len(on) == len(_HALVES):
        both = " and ".join(shown(name, given[name]) for name in on)
        raise UsageError(f"{both} contradict each other; give one of them")
    if len(halves) < len(_HALVES):
        return dict(given)
    rest = {name: value for name, value in given.items() if name not in halves or name in on}
    return rest if on else {**rest, "dtype": "float32"}


def _among(value: object, words: tuple[object, ...]) -> bool:
    """Whether a value is one of these, in Python or as it is typed."""
    on = truth(value) if any(isinstance(word, bool) for word in words) else None
    said = str(value) if on is None else str(on)
    return said.lower() in [str(word).lower() for word in words]


def _here(row: Name) -> str:
    """What a row means, for a table."""
    flag = f"--{row.own.replace('_', '-')}"
    parts = [f"`{word}`: `{flag} {own}`" if own is not True else f"`{word}`: `{flag}`" for word, own in row.values]
    if row.own and not row.otherwise and not any(isinstance(word, bool) for word, _ in row.values):
        same = f"`{flag} {row.form.format('NAME')}`" if row.form else f"`{flag}`"
        parts.append(f"others: {same}" if row.values else same)
    if row.anyway:
        parts.append(f"{' and '.join(f'`{word}`' for word in row.anyway)}: done anyway")
    if row.otherwise:
        parts.append(f"{'others' if parts else 'refused'}: {row.otherwise}")
    return "; ".join(parts).replace("|", "\\|")
