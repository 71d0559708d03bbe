"""How a push looks, sent or only shown, and what another engine would make of an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.text import counted, size
from llm_installer.export.check_for import Checked
from llm_installer.export.engines import ENGINES
from llm_installer.export.push.request import WORDS, File, Preview, Pushed
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import facts


@drawing.register
def preview(found: Preview) -> Iterator[RenderableType]:
    """The card, the files, and that nothing was sent."""
    for line in found.card.splitlines():
        yield Text(line)
    yield Text()
    yield facts(*((file.name, size(file.bytes)) for file in found.files))
    yield Text()
    rows = "" if found.notes else " and rows of your data"
    yield Text(f"Searched for local paths, user names, keys{rows}: nothing was found.")
    for note in found.notes:
        yield Text(note)
    seen = "private" if found.private else "public, unless it is there already and private"
    yield Text(
        f"Nothing was sent. Without --dry-run, {_sent(found.kind, found.files)} would go to {found.repo}, {seen}."
    )


@drawing.register
def pushed(found: Pushed) -> Iterator[RenderableType]:
    """What was sent, and that it arrived."""
    yield Text(f"Pushed {_sent(found.kind, found.files)}: {found.url}")
    yield Text(f"{found.proof} The commit is {found.commit[:12]}.")
    for note in found.notes:
        yield Text(note)


def _sent(kind: str, files: Sequence[File]) -> str:
    total = size(sum(file.bytes for file in files))
    return f"{WORDS[kind]} ({counted(len(files), 'file')}, {total})"


@drawing.register
def checked(found: Checked) -> Iterator[RenderableType]:
    """What would be refused or dropped, and what to type."""
    name = ENGINES[found.engine]
    if not found.findings:
        yield Text(f"{name} takes {found.adapter} as it is.")
    for finding in found.findings:
        yield Text(f"{finding.said}.")
    yield Text()
    yield Text("Merged into the model, nothing of it is lost. Type:" if found.findings else "Type:")
    for command in found.commands:
        yield Text(f"  {command}", no_wrap=True)
    if found.notes:
        yield Text()
    for note in found.notes:
        yield Text(note)
