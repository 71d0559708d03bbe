"""YAML and TOML: the whole document, its plain words and numbers kept as the text they are written as."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.core.text import shortened
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.text_files import whole_text
from llm_installer.data.reading.wrappers import records

_TOO_DEEP = "nested too deeply; is this really a dataset?"


def yaml_rows(source: Source) -> Iterator[Row]:
    """The records of a YAML file, numbered over all of its documents. Raises DataError."""
    import yaml

    from llm_installer.data.reading.yaml_loader import TooDeep, TooLarge, documents

    try:
        found = documents(whole_text(source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DataError(f"{source.name}{place}: not YAML: {_problem(error.problem or error.context)}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{source.name}: not YAML: {_problem(str(error))}") from None
    except TooDeep as error:
        raise DataError(f"{source.name}{f':{error.line}' if error.line else ''}: {_TOO_DEEP}") from None
    except RecursionError:
        raise DataError(f"{source.name}: {_TOO_DEEP}") from None
    except TooLarge:
        raise DataError(
            f"{source.name}: its aliases (*name) expand to many times the size of the file; write the values out"
        ) from None
    return _numbered(source, [document for document in found if document is not None])


def toml_rows(source: Source) -> Iterator[Row]:
    """The records of a TOML file: its [[data]] tables, or the file itself. Raises DataError."""
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            document: object = tomllib.loads(whole_text(source), parse_float=str)
        except ValueError as error:  # TOMLDecodeError is one, and so is a number of too many digits
            raise DataError(f"{source.name}: not TOML: {_problem(str(error))}") from None
        except RecursionError:
            raise DataError(f"{source.name}: {_TOO_DEEP}") from None
        return _numbered(source, [document] if document else [])
    raise DataError(f"{source.name}: TOML needs Python 3.11 or newer; save the data as JSON")


def _numbered(source: Source, documents: list[object]) -> Iterator[Row]:
    found = (pair for document in documents for pair in records(document, source.name))
    for number, (record, part) in enumerate(found, 1):
        yield Row(record, Origin(source.name, record=number), part)


def _problem(text: str | None) -> str:
    return f"{shortened(text or 'it cannot be parsed', 160)}; correct that place, or save the data as JSON"
