"""How a GGUF file looks: its receipt in a few lines, and what its user should know."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.hints import typed
from llm_installer.core.text import counted, short_path, shortened, size
from llm_installer.export.gguf.receipt import FileReceipt
from llm_installer.export.gguf.request import Exported
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Cell, facts

_READ_BY = {"file": "transformers, from the file alone", "ours": "transformers, with the model's own config"}


@drawing.register
def exported(found: Exported) -> Iterator[RenderableType]:
    """What was written, the receipt, and what to do with the file."""
    yield Text(f"Wrote {found.name} as {short_path(found.file)} ({size(found.bytes)}, {found.receipt.dtype})")
    yield facts(*_receipt(found.receipt))
    if found.indivisible:
        count, names = len(found.indivisible), shortened(", ".join(found.indivisible), 100)
        blocks = "stays f16, since its rows do" if count == 1 else "stay f16, since their rows do"
        yield Text(f"{counted(count, 'tensor')} {blocks} not divide into blocks of 32: {names}")
    for note in found.notes:
        yield Text(f"{note}.")
    yield Text()
    yield Text(f"Try it:    llama-cli -m {typed(found.file)}")


def _receipt(receipt: FileReceipt) -> Iterator[tuple[str, Cell]]:
    """The figures that matter, a line each."""
    apart, answers = receipt.tuned, receipt.answers
    yield "read back by", _READ_BY[receipt.config]
    same = f"same likeliest token at {apart.same_top:.2%} of {apart.positions} positions"
    yield "the model", f"{apart.kl:.1e} nats per token, largest logit difference {apart.largest_logit:.2g}; {same}"
    ties = f", {answers.near_ties} apart at a near tie" if answers.near_ties else ""
    other = f", {len(answers.different)} in other words" if answers.different else ""
    yield "answers", f"{answers.equal} of {counted(answers.asked, 'answer')} equal{ties}{other} ({receipt.prompts})"
    yield "tokens", f"{receipt.texts - len(receipt.other_tokens)} of {counted(receipt.texts, 'text')} equal"
