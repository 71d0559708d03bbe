"""The values of a plan in groups: what people change stands open, what hardly anybody changes is folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llm_installer.studio.insight import Values

FIRST = "What people change"
OTHER = "Others"
_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        FIRST: ("mode", "epochs", "cycles", "learning rate", "batch size", "sequence length", "LoRA rank"),
        "The adapter": (
            *("method", "base weights", "precision", "LoRA alpha", "LoRA dropout", "LoRA scale", "target modules"),
            *("adapted", "per-layer ranks", "per-layer alphas", "LoRA+ ratio", "NEFTune noise"),
        ),
        "How it learns": (
            *("optimizer", "warm-up", "LR schedule", "weight decay", "gradient clipping", "steps", "order", "seed"),
        ),
        "When it is evaluated, and when it stops": ("evaluation", "early stopping", "checkpoints"),
        "Memory and speed": (
            *("micro-batch", "packing", "cut rows", "fast paths", "CUDA graphs", "torch.compile"),
            "gradient checkpointing",
        ),
    }
)
_KEYS = re.compile(r"no known format fits: the record has the keys ((?:'[^']*'(?:, )?)+)")
FEW = 20
"""Rows below which a training is hardly one."""
FILE_FIELDS = (
    ("columns", "columns", "prompt=Question,answer=Reply", "Which columns are question and answer, where they have "
     "other names; with a history of turns: messages=conversation"),
    ("dataset_format", "format", "found by itself", "Only where it was taken for something else: the name of a "
     "format, such as alpaca, pair or completion"),
    ("validation_split", "share for validation", "chosen", "Between 0 and 0.9: rows that are kept aside to see whether "
     "it learns more than its rows"),
    ("max_examples", "at most so many rows", "all", "A sample is taken at random; good for a first try"),
)  # fmt: skip
"""(option, its label, what stands in an empty field, what it is) of how a file is read."""


def of_file(options: Mapping[str, str]) -> dict[str, str]:
    """The options among some that say how a file is read."""
    return {name: options[name] for name, *_ in FILE_FIELDS if options.get(name)}


@dataclass(frozen=True)
class Group:
    """Some values of a plan under one title."""

    title: str
    rows: list[Values]
    open: bool
    """Whether it is shown without a click."""
    short: str
    """What is in it, for its closed title."""


def groups(plan: Iterable[Values]) -> list[Group]:
    """The rows of a plan; a group with a value that was given stands open."""
    rows = list(plan)
    known = {name for names in _GROUPS.values() for name in names}
    found = {
        title: [one for name in names for one in rows if one.get("name") == name] for title, names in _GROUPS.items()
    }
    found[OTHER] = [one for one in rows if one.get("name") not in known]
    return [_group(title, of_it) for title, of_it in found.items() if of_it]


def _group(title: str, rows: list[Values]) -> Group:
    given = any(isinstance(one.get("setting"), dict) and _setting(one).get("given") is not None for one in rows)
    short = ", ".join(f"{one.get('name')} {one.get('value')}" for one in rows[:3])
    return Group(title, rows, given or title == FIRST, short)


def _setting(row: Values) -> Values:
    found = row.get("setting")
    return found if isinstance(found, dict) else {}


def keys_of(error: object) -> list[str]:
    """The columns that a file has where the error says that none of them is known; empty for other errors."""
    found = _KEYS.search(str(error or ""))
    keys = re.findall(r"'([^']{1,80})'", found[1]) if found else []
    return keys if len(keys) > 1 else []


def too_few(data: object) -> str:
    """A warning before a training on next to nothing; empty where there is enough."""
    train = data.get("train") if isinstance(data, dict) else None
    if not isinstance(train, int) or train >= FEW:
        return ""
    if train <= 1:
        return (
            "There is a single row to learn from. The model will repeat it, and learn nothing else; "
            "give some dozens of examples, better some hundreds."
        )
    return (
        f"There are {train} rows to learn from. The model will memorise them rather than learn what they have in "
        "common; give some dozens of examples, better some hundreds."
    )
