"""Which of several choices a model finds likeliest, by the rules of lm-eval (EleutherAI, lm-evaluation-harness)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_installer.core.voice import Progress
from llm_installer.data.encoding.answers import Rendered
from llm_installer.data.encoding.control_tokens import Restore, hide_control_tokens
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.row import Row
from llm_installer.evals.items import Item
from llm_installer.evals.losses import row_losses
from llm_installer.evals.statistics import Values
from llm_installer.inference.generate import Model

ACCURACIES = ("acc", "acc_norm", "acc_bytes")


@dataclass(frozen=True)
class Ranked:
    """What a model made of the choices of one row."""

    logprobs: tuple[float, ...]
    """Of each choice after the question, summed over its tokens."""
    chosen: dict[str, int]
    """The choice that is best by each of ACCURACIES; the first of several that are equal."""


def rank(
    model: Model, encoder: Encoder, items: Sequence[Item], longest: int, progress: Progress = lambda done, total: None
) -> list[Ranked]:
    """Rank the choices of each item. What is longer than `longest` tokens loses the beginning of its question."""
    rows = [choice_row(encoder, item, number, longest) for item in items for number in range(len(item.choices))]
    sums = -row_losses(model, encoder, rows, progress)
    found: list[Ranked] = []
    start = 0
    for item in items:
        found.append(ranked(sums[start : start + len(item.choices)], item.choices))
        start += len(item.choices)
    return found


def ranked(logprobs: Values, choices: Sequence[str]) -> Ranked:
    """acc takes the likeliest choice, acc_norm the likeliest per character, acc_bytes the likeliest per UTF-8 byte."""
    sizes = {
        "acc": np.ones(len(choices)),
        "acc_norm": np.array([len(one) for one in choices], dtype=float),
        "acc_bytes": np.array([len(one.encode("utf-8")) for one in choices], dtype=float),
    }
    return Ranked(tuple(map(float, logprobs)), {name: int(np.argmax(logprobs / size)) for name, size in sizes.items()})


def choice_row(encoder: Encoder, item: Item, number: int, longest: int) -> Row:
    """The question and one choice as a row, in which the choice is supervised.

    Both are encoded together, and split after as many tokens as the question has alone; spaces at its end belong to the
    choice.
    """
    question = item.example.messages[0]
    answer = item.example.messages[-1]
    choice = f" {item.choices[number]}" if item.example.kind == "completion" else item.choices[number]
    restore: Restore = {}
    if item.example.kind == "completion":
        before, after = question.content, choice
    else:
        asked = (question, type(answer)("assistant", choice))
        (hidden, said), _, restore = hide_control_tokens(asked, "", encoder.control_tokens)
        before, after = encoder.template.prompt([hidden]), said.content
    bare = before.rstrip()
    before, after = bare, before[len(bare) :] + after
    kind = item.example.kind
    whole = encoder.row(Rendered(before + after, ()), restore, kind, 0).ids
    context = encoder.row(Rendered(before, ()), restore, kind, 0).ids if before else whole[:0]
    if not len(context):
        first = encoder.bos or [encoder.eos]
        context = np.array(first, dtype=np.int32)
        rest = whole[len(encoder.bos) :] if kind == "completion" else whole
        whole = np.concatenate([context, rest])
    supervised = np.arange(len(whole)) >= len(context)
    whole, supervised = whole[-longest:], supervised[-longest:].copy()
    supervised[:1] = False
    return Row(whole, supervised, number)
