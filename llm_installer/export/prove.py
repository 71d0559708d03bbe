"""The proof of a result: the tuned model is looked at, then the result in its place; a receipt says how they differ.

One model is in memory at a time. What is kept of each are a few hundred positions and a few answers.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import import_bitsandbytes
from llm_installer.export.measure import (
    BUNDLED,
    Asked,
    Looked,
    answer_all,
    asked,
    compare_answers,
    difference,
    look,
    predictions,
)
from llm_installer.export.published import adapter_in
from llm_installer.export.quantised import plain_name, quantised_weights, round_trip
from llm_installer.export.receipt import TOLERANCES, Difference, Receipt, Rounding
from llm_installer.export.request import BASES, DEQUANTISED
from llm_installer.inference.load import Assistant, load_assistant
from llm_installer.planning.chooser import choose_precision
from llm_installer.planning.registry import find_handler
from llm_installer.runs.compare import Questions, questions
from llm_installer.runs.listing import RunRow

_BUNDLED = Questions("a few bundled prompts", texts=BUNDLED)
_ROWS = 8
"""Questions that are asked of a run's data."""
_ROOM = 1.2
"""Memory for a model, as a multiple of its weights."""


@dataclass(frozen=True)
class Reference:
    """The tuned model, as a result is compared with it."""

    questions: Questions
    asked: Asked
    looked: Looked
    precision: str
    """In which it was computed."""
    style: str
    onto: str = ""
    as_trained: Mapping[str, Difference] = field(default_factory=dict)
    quantised: frozenset[str] = frozenset()
    """The weights that were quantised in training."""
    trained_in: torch.dtype = torch.float32
    """The type that they were loaded in before."""


@dataclass(frozen=True)
class Tuned:
    """A base, an adapter, and what it is to be merged onto."""

    folder: ModelDir
    lora: Path
    quantised: str
    """How the base was quantised in training: a name of planning.method.QUANTISED, or empty."""
    onto: str = ""
    """One of BASES where that is settled."""
    copy: ModelDir | None = None
    """The base with dequantised weights, where it is published quantised."""


def asked_of(row: RunRow | None) -> Questions:
    """The questions of a run's own data, or a few bundled ones."""
    found = questions(row, (), _ROWS) if row else _BUNDLED
    return found if found.examples else _BUNDLED


def precision_for(info: ModelInfo) -> str:
    """In which type models are compared: float32, which hides nothing, where that fits into memory."""
    hardware = probe_hardware()
    fits = info.parameters * 4 * _ROOM < hardware.free_bytes
    return "float32" if fits else choose_precision(info, find_handler(info), hardware)[0]


def look_at(tuned: Tuned, questions: Questions, precision: str) -> Reference:
    """Look at the tuned model on the base that it is merged onto. Raises what load_assistant raises."""
    if tuned.copy:
        return _on_copy(tuned, tuned.copy, questions, precision)
    if tuned.quantised:
        return _on_both(tuned, questions, precision)
    assistant = load_assistant(tuned.folder, tuned.lora, precision=precision)
    asks, prompts = asked_with(assistant, questions)
    return Reference(asks, prompts, look(assistant, prompts.ids), precision, assistant.style)


def _on_both(tuned: Tuned, questions: Questions, precision: str) -> Reference:
    """The same for a run on a quantised base: on either of its bases, and as it was trained."""
    import_bitsandbytes()
    assistant = load_assistant(tuned.folder, tuned.lora, tuned.quantised)
    asks, prompts = asked_with(assistant, questions)
    trained, style, dtype = look(assistant, prompts.ids), assistant.style, assistant.model.dtype
    weights = quantised_weights(assistant.model, tuned.quantised)
    del assistant
    texts = [(*p, *a) for p, a in zip(prompts.ids, trained.answers, strict=True)]
    margin = TOLERANCES["float32"].margin
    seen: dict[str, Looked] = {}
    as_trained: dict[str, Difference] = {}
    for base in BASES:
        gc.collect()  # of two models one is in memory
        on_base = load_assistant(tuned.folder, tuned.lora, precision=precision)
        if base == DEQUANTISED:
            _dequantise(on_base, weights, tuned.quantised, dtype)
        as_trained[base] = difference(trained.logits, predictions(on_base.model, texts), margin)
        seen[base] = look(on_base, prompts.ids)
        del on_base
    onto = tuned.onto or min(as_trained, key=lambda base: as_trained[base].kl)
    return Reference(asks, prompts, seen[onto], precision, style, onto, as_trained, weights, dtype)


def _on_copy(tuned: Tuned, copy: ModelDir, questions: Questions, precision: str) -> Reference:
    """The same for a base that is published quantised: on its dequantised copy, and as it was trained."""
    import_bitsandbytes()
    assistant = load_assistant(tuned.folder, tuned.lora)
    asks, prompts = asked_with(assistant, questions)
    trained, style, thinks = look(assistant, prompts.ids), assistant.style, assistant.encoder.template.thinks
    del assistant
    gc.collect()
    on_copy = replace(load_assistant(copy, adapter_in(copy), precision=precision), style=style)
    on_copy.encoder.template.thinks = thinks
    texts = [(*p, *a) for p, a in zip(prompts.ids, trained.answers, strict=True)]
    apart = difference(trained.logits, predictions(on_copy.model, texts), TOLERANCES["float32"].margin)
    seen = look(on_copy, prompts.ids)
    return Reference(asks, prompts, seen, precision, style, DEQUANTISED, {DEQUANTISED: apart})


def asked_with(assistant: Assistant, questions: Questions) -> tuple[Questions, Asked]:
    """The questions, or where none of them can be asked, bundled ones."""
    found = asked(assistant, questions)
    return (questions, found) if found.shown else (_BUNDLED, asked(assistant, _BUNDLED))


@torch.no_grad()
def _dequantise(assistant: Assistant, weights: frozenset[str], kind: str, dtype: torch.dtype) -> None:
    """Give each weight of the base that was quantised in training the value that it had then."""
    way = round_trip(kind, dtype)
    for name, weight in assistant.model.named_parameters():
        if plain_name(name) in weights:
            weight.copy_(way(weight))


def prove(staging: ModelDir, against: Reference, dtype: str, rounding: Rounding) -> Receipt:
    """Load a merged model and compare it with the tuned one. Raises ModelError where it cannot be loaded."""
    gc.collect()
    assistant = load_assistant(staging, None, precision=against.precision)
    tuned, prompts = against.looked, against.asked
    limit = max((TOLERANCES[dtype], TOLERANCES[against.precision]), key=lambda each: each.kl)
    texts = [(*p, *a) for p, a in zip(prompts.ids, tuned.answers, strict=True)]
    logits, answers = predictions(assistant.model, texts), answer_all(assistant, prompts.ids)
    assert tuned.base is not None, "an adapter was on it"
    return Receipt(
        kind="merge",
        dtype=dtype,
        computed_in=against.precision,
        prompts=against.questions.source,
        tuned=difference(tuned.logits, logits, limit.margin),
        base=difference(tuned.base, logits, limit.margin),
        trained=difference(tuned.base, tuned.logits, limit.margin),
        answers=compare_answers(prompts.shown, tuned, answers, limit.margin),
        tokens_equal=asked(assistant, against.questions).ids == prompts.ids,
        rounding=rounding,
        onto=against.onto,
        as_trained=against.as_trained,
    )
