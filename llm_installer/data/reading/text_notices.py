"""What is said about plain text files: what a row of each is, why, and how to have it otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_installer.core.errors import UsageError
from llm_installer.core.text import counted
from llm_installer.data.reading.readers import reads_text
from llm_installer.data.reading.rows import Source
from llm_installer.data.reading.text_files import text_rows
from llm_installer.data.reading.text_rows import LINES, ROWS, WHOLE


def text_notices(sources: Sequence[Source]) -> Iterator[str]:
    """A sentence for each kind of rows that plain text files have.

    Raises DataError for a file that cannot be read, and UsageError where it is said how to read them and none is there.
    """
    found: dict[tuple[str, str], list[Source]] = {}
    texts = [source for source in sources if reads_text(source)]
    asked = next((source.text_rows for source in sources), "")
    if asked and not texts:
        raise UsageError("--text-rows says how .txt files are read, and there is none in this data; remove the option")
    for source in texts:
        chosen = text_rows(source) if not asked else None
        found.setdefault((chosen.rows, chosen.why) if chosen else (asked, "you set it"), []).append(source)
    for (rows, why), files in found.items():
        more = f" and {counted(len(files) - 1, 'more text file')}" if len(files) > 1 else ""
        other = "" if asked else f"; --text-rows {WHOLE if rows == LINES else LINES} changes that"
        yield f"{files[0].name}{more}: {ROWS[rows][1]}, because {why}{other}"
