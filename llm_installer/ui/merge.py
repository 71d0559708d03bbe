"""How what leaves the program looks: the receipt of a result in a few lines, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.hints import script
from llm_installer.core.text import counted, short_path, size
from llm_installer.export.receipt import Difference, Receipt
from llm_installer.export.request import Merged
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Cell, facts

ON = {"full": "the full-precision base", "dequantised": "the dequantised base"}
"""What a run on a quantised base was merged onto, in words."""


@drawing.register
def merged(found: Merged) -> Iterator[RenderableType]:
    """What was merged, the receipt, and what to do with the result."""
    root = found.folder.root
    onto = f"{found.base}, {ON[found.receipt.onto]}" if found.receipt.onto else found.base
    yield Text(f"Merged {found.made_by} into {onto}: {short_path(root)} ({size(found.bytes)}, {found.receipt.dtype})")
    yield facts(*_receipt(found.receipt))
    if found.untied:
        yield Text(f"Its output layer is no longer its embedding, and both are stored: {size(found.untied)} more.")
    yield Text()
    yield Text(f"Talk to it:    {script(root, 'start.sh')}")
    yield Text(f"Train it:      {script(root)} --data my.json")


def _receipt(receipt: Receipt) -> Iterator[tuple[str, Cell]]:
    """The figures that matter, a line each."""
    yield "tuned model", apart(receipt.tuned)
    yield "base", away(receipt.base, receipt.trained)
    yield "answers", _answers(receipt)
    if receipt.as_trained:
        both = " and ".join(f"{each.kl:.2g} on {ON[name]}" for name, each in receipt.as_trained.items())
        yield "as trained", f"{both}, in nats per token from the run on its quantised base; nearer: {receipt.nearer}"
    if receipt.rounding.unchanged and receipt.dtype != "float32":
        share = f"{receipt.rounding.share:.1%} of the trained weights stay as they were"
        yield "rounding", f"{share}: their steps are smaller than {receipt.dtype} can hold"


def away(base: Difference, trained: Difference) -> str:
    """How far a result is from the base, beside what the training did to it."""
    return f"{base.kl:.2g} nats per token away (the adapter itself: {trained.kl:.2g})"


def apart(found: Difference) -> str:
    """How far a result is from the tuned model."""
    top = f"same likeliest token at {found.same_top:.2%} of {counted(found.positions, 'position')}"
    return f"{found.kl:.2g} nats per token away, largest logit difference {found.largest_logit:.2g}; {top}"


def _answers(receipt: Receipt) -> str:
    found = receipt.answers
    ties = f", {found.near_ties} apart at a near tie" if found.near_ties else ""
    apart = f", {len(found.different)} in other words" if found.different else ""
    return f"{found.equal} of {counted(found.asked, 'answer')} equal{ties}{apart} ({receipt.prompts})"
