"""XML: the children of the root are the rows, and their children are the fields; entities are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.core.text import shortened
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.text_files import decoded, line_blocks

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

_ROW, _FIELD = 2, 3


def xml_rows(source: Source) -> Iterator[Row]:
    """The rows of an XML file as dicts of str (or a str), with the line on which each begins. Raises DataError."""
    from xml.parsers import expat

    parser = expat.ParserCreate("UTF-8")  # the text is UTF-8 by now, whatever its first line says
    parser.buffer_text = True
    builder = _Builder(source, parser)
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.doctype
    blank = True
    try:
        for block in line_blocks(source):
            text = decoded(source, block)
            blank = blank and not text.strip()
            parser.Parse(text.encode(), False)
            yield from builder.take()
        if not blank:
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DataError(
            f"{source.name}:{error.lineno}, column {error.offset + 1}: not XML ({expat.ErrorString(error.code)}); "
            f"in text, write & as &amp; and < as &lt;"
        ) from None


class _Builder:
    """Collects rows from the callbacks of the parser; whitespace around texts is removed."""

    def __init__(self, source: Source, parser: XMLParserType) -> None:
        self._source, self._parser = source, parser
        self._depth, self._line = 0, 0
        self._fields: dict[str, str] = {}
        self._texts: list[str] = []
        self._rows: list[Row] = []

    def take(self) -> list[Row]:
        """The rows completed since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def doctype(self, *_: object) -> None:
        raise self._error("a DOCTYPE; entities are not supported, so write them out and remove the DOCTYPE")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _FIELD:
            raise self._error(f"<{tag}> is nested deeper than root, row and field; save such data as JSON")
        self._refuse_loose_text()
        if self._depth == _ROW:
            self._line, self._fields = self._parser.CurrentLineNumber, dict(attributes)
        elif attributes and self._depth == _FIELD:
            raise self._error(f"the field <{tag}> has attributes, which would be lost; make them fields")
        self._texts = []

    def text(self, text: str) -> None:
        self._texts.append(text)

    def end(self, tag: str) -> None:
        text = "".join(self._texts).strip()
        if self._depth == _FIELD:
            if tag in self._fields:
                raise self._error(f"<{tag}> is given twice in one row; remove one of the two")
            self._fields[tag] = text
        elif self._depth == _ROW:
            if self._fields:
                self._refuse_loose_text()
            value: object = self._fields if self._fields or not text else text
            self._rows.append(Row(value, Origin(self._source.name, self._line)))
        else:
            self._refuse_loose_text()
        self._texts = []
        self._depth -= 1

    def _refuse_loose_text(self) -> None:
        if loose := "".join(self._texts).strip():
            raise self._error(f'the text "{shortened(loose, 40)}" is between fields; put it into a field')

    def _error(self, what: str) -> DataError:
        return DataError(f"{self._source.name}:{self._parser.CurrentLineNumber}: {what}")
