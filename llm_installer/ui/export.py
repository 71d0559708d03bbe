"""How what leaves for other programs looks: its receipts in a few lines, what its user should know and type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.text import counted, short_path, shortened, size
from llm_installer.export.gguf.receipt import FileReceipt
from llm_installer.export.kinds import Exported
from llm_installer.export.pairs.receipt import PairReceipt
from llm_installer.export.receipt import Answers
from llm_installer.ui.drawing import drawing
from llm_installer.ui.merge import apart, away
from llm_installer.ui.tables import Cell, facts

_READ_BY = {"file": "transformers, from the file alone", "ours": "transformers, with the model's own config"}


@drawing.register
def exported(found: Exported) -> Iterator[RenderableType]:
    """What was written, the receipts, and what to do with it."""
    yield Text(f"Wrote {found.name} as {short_path(found.file)} ({size(found.bytes)}, {found.receipt.dtype})")
    for receipt in found.receipts:
        yield facts(*_receipt(receipt))
    if found.indivisible:
        count, names = len(found.indivisible), shortened(", ".join(found.indivisible), 100)
        blocks = "stays f16, since its rows do" if count == 1 else "stay f16, since their rows do"
        yield Text(f"{counted(count, 'tensor')} {blocks} not divide into blocks of 32: {names}")
    for note in found.notes:
        yield Text(f"{note}.")
    yield Text()
    for number, command in enumerate(found.commands):
        yield Text(f"{'' if number else 'Try it:':<11}{command}")


@singledispatch
def _receipt(receipt: object) -> Iterator[tuple[str, Cell]]:
    """The figures that matter, a line each."""
    raise TypeError(f"Nothing here draws a {type(receipt).__qualname__}")


@_receipt.register
def _of_file(receipt: FileReceipt) -> Iterator[tuple[str, Cell]]:
    yield "read back by", _READ_BY[receipt.config]
    yield "tuned model" if receipt.base else "the model", apart(receipt.tuned)
    if receipt.base and receipt.trained:
        yield "base", away(receipt.base, receipt.trained)
    yield "answers", _answers(receipt.answers, receipt.prompts)
    yield "tokens", f"{receipt.texts - len(receipt.other_tokens)} of {counted(receipt.texts, 'text')} equal"


@_receipt.register
def _of_pairs(receipt: PairReceipt) -> Iterator[tuple[str, Cell]]:
    off = f"largest difference {receipt.largest:.1e} of the size of what was trained"
    yield "read back", f"{counted(receipt.modules, 'weight')}; {off}"
    yield "tuned model", apart(receipt.tuned)
    yield "base", away(receipt.base, receipt.trained)
    yield "answers", _answers(receipt.answers, receipt.prompts)


def _answers(found: Answers, prompts: str) -> str:
    ties = f", {found.near_ties} apart at a near tie" if found.near_ties else ""
    other = f", {len(found.different)} in other words" if found.different else ""
    return f"{found.equal} of {counted(found.asked, 'answer')} equal{ties}{other} ({prompts})"
