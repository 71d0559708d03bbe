"""A relation between words, and a fact: told, asked in many ways, and answered."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Pool = Callable[[Random], str]


@dataclass(frozen=True)
class Relation:
    """One kind of fact: `{s}` is what it is about, `{p}` a second word for it, `{v}` the answer."""

    subject: Pool
    value: Pool
    told: tuple[str, ...]
    asked: tuple[str, ...]
    answered: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A relation with its words filled in."""

    relation: Relation
    subject: str
    value: str

    def tell(self, rng: Random) -> str:
        """The fact as a statement."""
        return self._fill(rng.choice(self.relation.told))

    def ask(self, rng: Random) -> str:
        """One of the many questions about the fact."""
        return self._fill(rng.choice(self.relation.asked))

    def answer(self, rng: Random) -> str:
        """The fact as an answer; the first wording is the usual one."""
        answers = self.relation.answered
        return self._fill(answers[0] if rng.random() < 0.6 else rng.choice(answers))

    def _fill(self, template: str) -> str:
        subject, _, phrase = self.subject.partition("|")
        text = template.format(s=subject, p=phrase, v=self.value)
        return text[0].upper() + text[1:]


def one_of(items: tuple[str, ...], before: str = "") -> Pool:
    """A pool that draws one of the items, with `before` in front of it."""
    return lambda rng: before + rng.choice(items)


def make_fact(relation: Relation, rng: Random) -> Fact:
    """A fact with random words."""
    return Fact(relation, relation.subject(rng), relation.value(rng))
