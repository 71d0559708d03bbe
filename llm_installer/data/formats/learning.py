"""Which answers count: the keys at a turn by which datasets say so, in every spelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache

from llm_installer.core.text import shortened
from llm_installer.data.formats.names import bare
from llm_installer.data.formats.values import absent, kind_of

LEARNED = frozenset(
    [
        *("weight", "weights", "lossweight", "lossscale", "loss", "lossmask", "calculateloss", "computeloss"),
        *("train", "training", "trainable", "istrainable", "trained", "trainon", "learn", "learnable", "supervised"),
    ]
)
"""Keys, bare, at which 0 or false says that an answer is not trained on."""
MASKED = frozenset(
    [
        *("mask", "masked", "ismasked", "maskloss", "lossmasked", "maskout", "ignore", "ignored", "ignoreloss"),
        *("noloss", "skiploss", "notrain", "excludefromloss"),
    ]
)
"""Keys, bare, at which 1 or true says that an answer is not trained on."""
PARTLY = frozenset(["traindetail", "traindetails", "trainingdetail", "trainingdetails"])
"""Keys, bare, that choose parts of an answer."""
ALL = LEARNED | MASKED | PARTLY
"""All of them."""
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def counts(item: Mapping[str, object]) -> bool:
    """Whether an answer is trained on: not where its keys contradict each other, or one is neither yes nor no."""
    learned = True
    for key, _ in _flags(tuple(item)):
        name, value = bare(key), item[key]
        if not absent(value):
            learned &= truth(value) is (name in LEARNED) and name not in PARTLY
    return learned


def says_no(record: Mapping[str, object]) -> list[str]:
    """The keys of a record that would keep an answer from being trained on, were they at a turn."""
    return [key for key, no in _flags(tuple(record)) if truth(record[key]) is no]


def lists(record: Mapping[str, object]) -> list[str]:
    """The keys of a record that would say it for each of its turns in a list."""
    found = [(key, record[key]) for key, _ in _flags(tuple(record))]
    return [key for key, value in found if isinstance(value, list | tuple) and not absent(value)]


@lru_cache(maxsize=4096)
def _flags(keys: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """The keys that say whether something counts, and what each says where it does not."""
    named = [(key, bare(key)) for key in keys if type(key) is str]
    return tuple((key, name in MASKED) for key, name in named if name in ALL)


def doubts(item: Mapping[str, object]) -> Iterator[str]:
    """What a turn says of its answer that is neither yes nor no, in words."""
    for key, _ in _flags(tuple(item)):
        name, value = bare(key), item[key]
        if not absent(value) and (name in PARTLY or truth(value) is None):
            shown = shortened(str(value), 40) if isinstance(value, str | int | float) else kind_of(value)
            yield f"'{key}' is {shown} at an answer, which is not trained on: an answer counts (1) or it does not (0)"


_GOOD = frozenset(["good", "positive", "chosen", "like", "desirable", "accepted"])
_BAD = frozenset(["bad", "negative", "rejected", "dislike", "undesirable"])


def verdict(value: object) -> bool | None:
    """Whether an answer is said to be good, in a word or as 1 and 0; None for anything else."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _GOOD else False if word in _BAD else truth(value)


def truth(value: object) -> bool | None:
    """1 and true, 0 and false, in every spelling; None for anything else."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word)
        except ValueError:
            return None
    return bool(value) if isinstance(value, int | float | Decimal) and value in (0, 1) else None
