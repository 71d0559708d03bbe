"""What truncating rows to the sequence length takes from them, in counts and in words; and how much is too much."""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.core.errors import DataError
from llm_installer.core.text import counted
from llm_installer.planning.options import Options
from llm_installer.planning.settings import flag

TOO_MUCH = 0.2
"""Share of the answer tokens that may be cut off without being asked for."""


@dataclass(frozen=True)
class CutFacts:
    """What rows lose that are longer than the sequence length. Plain text is split instead, and loses nothing."""

    rows: int = 0
    """Rows that are cut, and trained on or validated without what they lose."""
    of: int = 0
    """All rows of training and validation."""
    question: int = 0
    """Cut rows that lose their question or its beginning."""
    answer: int = 0
    """Cut rows that lose tokens of their answers."""
    end: int = 0
    """Cut rows that lose the token that ends their last answer."""
    lost: float = 0.0
    """Share of the supervised tokens of conversations and completions that is lost, 0 to 1."""
    longest: int = 0
    """Tokens of the longest row that is cut."""

    @property
    def value(self) -> str:
        """How many rows are cut, as a value in a table."""
        return f"{self.rows:,} of {self.of:,}"

    @property
    def why(self) -> str:
        """What they lose, in words."""
        parts = [
            f"{count:,} {'loses' if count == 1 else 'lose'} {what}"
            for count, what in (
                (self.question, "the question or part of it"),
                (self.answer, "part of the answer"),
                (self.end, "the end token"),
            )
            if count
        ]
        return "; ".join([", ".join(parts), f"{percent(self.lost)} of all answer tokens are cut off"])


NOTHING_CUT = CutFacts()


@dataclass(frozen=True)
class Room:
    """How long rows may be, and for whom."""

    limit: int
    """The sequence length that was chosen, in tokens."""
    most: int
    """The most that the model can read, in tokens."""
    model: str


def percent(share: float) -> str:
    """A share in per cent; what is not nothing never reads as 0 %, and what is not everything never as 100 %."""
    if 0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1 else f"{share:.0%}"


def too_much(cut: CutFacts, options: Options, room: Room) -> str:
    """Why training stops over what is cut off the answers, with the choices there are; empty where it does not."""
    if cut.lost <= TOO_MUCH or options.allow_cut_answers:
        return ""
    what = f"{cut.value} rows are" if cut.of != 1 else "the only row is"
    return (
        f"{percent(cut.lost)} of the answer tokens would be cut off: {what} longer than {room.limit:,} tokens, the "
        f"longest has {cut.longest:,}; {longer(room)}, or add {flag('allow_cut_answers')} to train on what is left"
    )


def refuse_lost_answers(cut: CutFacts, options: Options, room: Room) -> None:
    """Raise DataError, with the choices there are, when more is cut off the answers than should be unasked."""
    if said := too_much(cut, options, room):
        raise DataError(said)


def longer(room: Room) -> str:
    """What can be done about rows that are too long, for the middle of a sentence."""
    if room.limit < room.most:
        return f"shorten the texts, raise {flag('max_seq_length')} ({room.model} can read {room.most:,})"
    return f"shorten the texts ({room.model} can read no more, so {flag('max_seq_length')} cannot be raised)"


def lost_of_row(length: int, limit: int, question: int, answer: tuple[int, int], end: bool) -> str:
    """What one row loses, in words: tokens of its question, (lost, all) tokens of its answers, whether its end."""
    lost, total = answer
    parts = [f"{counted(question, 'token')} of its question"] if question else []
    if lost:
        parts.append(f"{lost:,} of the {counted(total, 'token')} of its answer{', its end among them' if end else ''}")
    return f"cut from {length:,} to {counted(limit, 'token')}: it loses {' and '.join(parts)}"
