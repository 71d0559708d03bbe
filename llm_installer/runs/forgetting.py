"""What a run forgot, in sentences: on general text, on text that the base wrote, and beside what was learned."""

from __future__ import annotations

import math

from llm_installer.core.changes import FORGOTTEN, Changes, Pair
from llm_installer.core.text import counted

NAMES = ((FORGOTTEN, "none"), (0.5, "a little"), (math.inf, "much"))
"""Largest rise of a loss, in nats per token, and what it is called. 0.1 is 10 % in perplexity, 0.5 is 65 %."""
OWN_TEXT = "Text that the base wrote"


def found_forgotten(changes: Changes) -> list[str]:
    """A sentence about general text, and one about what the base wrote."""
    own = changes.own
    return [
        f"General text ({counted(changes.general.rows, 'sentence')}): {_change(changes.general)}.",
        f"{OWN_TEXT} ({counted(own.rows, 'sample')}): {_change(own)}."
        if own
        else f"{OWN_TEXT}: none, for {changes.no_own}.",
    ]


def verdict(changes: Changes, memorising: bool) -> str:
    """What was forgotten, and whether that is more than what was learned: the end of a sentence."""
    pairs = [pair for pair in (changes.own, changes.general) if pair]
    if not all(math.isfinite(pair.change) for pair in pairs):
        return "unknown, for the loss is not a finite number"
    worst = max(pairs, key=lambda pair: pair.change if pair.change > pair.noise else -math.inf)
    name = _name(worst)
    if name == NAMES[0][1]:
        return name
    learned = changes.learned(memorising)
    on = f"{'training' if learned is changes.training else 'validation'} rows"
    course = f"the loss on {on} {'rose' if learned.change > 0 else 'fell'} by {abs(learned.change):.2f}"
    return f"{name}, {_beside(worst, learned)} it learned ({course})"


def _name(pair: Pair) -> str:
    """How much the loss rose, in words; a rise within the noise is none."""
    risen = pair.change if pair.change > pair.noise else 0.0
    return next(name for limit, name in NAMES if risen <= limit)


def _beside(forgotten: Pair, learned: Pair) -> str:
    if forgotten.rises_more(learned):
        return "more than"
    return "but less than" if forgotten.rises_less(learned) else "about as much as"


def _change(pair: Pair) -> str:
    """The change of a loss and its noise."""
    if not math.isfinite(pair.change):
        return "the loss is not a finite number"
    within = "beyond" if abs(pair.change) > pair.noise else "within"
    known = f" of {pair.noise:.2f}" if math.isfinite(pair.noise) else ""
    return f"loss per token {round(pair.change, 2) + 0.0:+.2f}, {within} the noise{known}"
