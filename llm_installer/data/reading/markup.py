"""YAML and TOML: the whole document, its plain scalars kept as the text they are written as."""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Iterator
from typing import Any

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.data.reading.rows import Row, Source, shortened
from llm_installer.data.reading.text_files import whole_text
from llm_installer.data.reading.wrappers import records

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(~|null|Null|NULL|)$")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_MERGE = re.compile("<<$")
# YAML would read "no" as false, 12:30 as 750 and 2024-01-01 as a date; texts to learn must stay texts.
_RESOLVERS = {
    **{first: [(_TAG + "null", _NULL)] for first in ("~", "n", "N", "")},
    **{first: [(_TAG + "bool", _BOOL)] for first in "tTfF"},
    "<": [(_TAG + "merge", _MERGE)],
}
_EXPANSION = 10
_DEEPEST = 200


def yaml_rows(source: Source) -> Iterator[Row]:
    """The records of a YAML file; several documents count on."""
    import yaml

    text = whole_text(source)
    limit = _EXPANSION * len(text) + 1000
    try:
        _refuse_depth(text, source.name)
        documents = _documents(text, limit)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DataError(f"{source.name}{line}: not YAML: {_problem(error.problem or error.context)}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{source.name}: not YAML: {_problem(str(error))}") from None
    except RecursionError:
        raise DataError(f"{source.name}: nested too deeply; is this really a dataset?") from None
    if documents is None or _is_larger(documents, limit):
        raise DataError(f"{source.name}: its aliases (*name) unfold to many times the file; write the values out")
    return _numbered(source, [document for document in documents if document is not None])


def toml_rows(source: Source) -> Iterator[Row]:
    """The records of a TOML file: its [[data]] tables, or the file itself."""
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            document: object = tomllib.loads(whole_text(source), parse_float=str)
        except ValueError as error:  # TOMLDecodeError is one, and so is a number of too many digits
            raise DataError(f"{source.name}: not TOML: {_problem(str(error))}") from None
        except RecursionError:
            raise DataError(f"{source.name}: nested too deeply; is this really a dataset?") from None
        return _numbered(source, [document] if document else [])
    raise DataError(f"{source.name}: TOML needs Python 3.11 or newer; save the data as JSON")


def _numbered(source: Source, documents: list[object]) -> Iterator[Row]:
    found = (pair for document in documents for pair in records(document, source.name))
    for number, (record, part) in enumerate(found, 1):
        yield Row(record, Origin(source.name, record=number), part)


def _refuse_depth(text: str, name: str) -> None:
    """Refuse what is nested so deeply that the C library below would overrun its stack, and end the process."""
    import yaml

    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                place = f":{event.start_mark.line + 1}" if event.start_mark else ""
                raise DataError(f"{name}{place}: nested too deeply; is this really a dataset?")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _documents(text: str, limit: int) -> list[object] | None:
    """Every document of the text; None when merging (<<) makes more than `limit` entries out of it."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    loader.yaml_implicit_resolvers = _RESOLVERS
    as_text = loader.yaml_constructors[_TAG + "str"]
    loader.yaml_constructors = {
        **loader.yaml_constructors,
        **{_TAG + kind: as_text for kind in ("int", "float", "timestamp")},
        _TAG + "bool": _true_or_false,
        _TAG + "map": _unique_map,
    }
    flatten, merged = loader.flatten_mapping, 0

    def bounded(node: Any) -> None:
        nonlocal merged
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                inner = [part for part in _parts(value) if isinstance(part, yaml.MappingNode)]
                for part in inner:
                    bounded(part)
                merged += sum(len(part.value) for part in inner)
        if merged > limit:
            raise _TooLarge
        flatten(node)

    loader.flatten_mapping = bounded
    documents: list[object] = []
    try:
        while loader.check_data():
            documents.append(loader.get_data())
    except _TooLarge:
        return None
    finally:
        loader.dispose()
    return documents


class _TooLarge(Exception):
    """Merging makes far more out of a file than it holds."""


def _parts(value: Any) -> list[Any]:
    """The nodes that a merge names: one, or a list."""
    return value.value if isinstance(value.value, list) and value.id == "sequence" else [value]


def _true_or_false(loader: Any, node: Any) -> bool:
    """A value that is tagged as one of the two."""
    from yaml.constructor import ConstructorError

    value: str = loader.construct_scalar(node)
    if not _BOOL.match(value):
        raise ConstructorError(None, None, f'"{value}" is neither true nor false', node.start_mark)
    return value.lower() == "true"


def _unique_map(loader: Any, node: Any) -> dict[Hashable, object]:
    """A mapping that refuses a name given twice, which YAML would answer with the last."""
    from yaml.constructor import ConstructorError

    names = [key for key, _ in node.value if key.id == "scalar"] if node.id == "mapping" else []
    seen: set[str] = set()
    for key in names:
        if key.value in seen:
            raise ConstructorError(None, None, f'the name "{key.value}" stands twice; take one out', key.start_mark)
        seen.add(key.value)
    mapping: dict[Hashable, object] = loader.construct_mapping(node, deep=True)
    return mapping


def _is_larger(documents: list[object], limit: int) -> bool:
    """Whether the documents hold more values than `limit`, counting what aliases repeat (or repeat for ever)."""
    stack: list[object] = [documents]
    count = 0
    while stack and count <= limit:
        inner = stack.pop()
        count += 1
        if isinstance(inner, dict):
            stack.extend(inner.values())
        elif isinstance(inner, list | tuple | set):
            stack.extend(inner)
    return count > limit


def _problem(text: str | None) -> str:
    return f"{shortened(text or 'it cannot be parsed', 160)}; correct that place, or save the data as JSON"
