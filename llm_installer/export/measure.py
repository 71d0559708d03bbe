"""How a model answers and predicts, in numbers small enough to keep while another model is loaded in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor

from llm_installer.export.receipt import Answers, Difference
from llm_installer.inference.before_after import Question, question_ids, question_of
from llm_installer.inference.generate import Model, Sampling, samples
from llm_installer.inference.load import Assistant
from llm_installer.runs.compare import Questions

LENGTH = 40
"""Tokens of an answer."""
LONGEST = 512
"""Tokens of a prompt that is asked."""
NUMBERS = 1 << 26
"""Logits that are kept of a model: 256 MiB."""
POSITIONS = 400
BUNDLED = (
    "Hello! Who are you, and what can you do?",
    "Once upon a time there was",
    "Explain in two sentences why the sky is blue.",
    "List three things that you need for a long walk.",
)
"""Asked where the run has no data of its own, or its data is no longer there."""


@dataclass(frozen=True)
class Asked:
    """The prompts, as words and as the ids that they are to a model."""

    shown: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Looked:
    """What was seen of a model."""

    answers: tuple[tuple[int, ...], ...]
    """Greedy answers, without what ends them."""
    logits: Tensor
    """At positions of all texts [positions, vocabulary], in float32."""
    base: Tensor | None = None
    """The same without the adapter."""
    margins: tuple[tuple[float, ...], ...] = ()
    """How far the two likeliest tokens are apart at each token of each answer, and after it."""


def asked(assistant: Assistant, questions: Questions) -> Asked:
    """The questions as this model is asked them; those with images, and very long ones, are left out."""
    encoder, style = assistant.encoder, assistant.style
    found = [Question(text, "", question_ids(encoder, text, style)) for text in questions.texts]
    found += [q for example in questions.examples if (q := question_of(encoder, example)) and not q.images]
    some = [q for q in found if 0 < len(q.ids) <= LONGEST]
    return Asked(tuple(q.shown for q in some), tuple(tuple(q.ids) for q in some))


def answer_all(assistant: Assistant, prompts: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """A greedy answer to each prompt."""
    sampling = Sampling(max_new_tokens=LENGTH)
    return tuple(tuple(samples(assistant.model, assistant.encoder, p, 1, sampling)[0]) for p in prompts)


def look(assistant: Assistant, prompts: Sequence[Sequence[int]]) -> Looked:
    """Answers to the prompts, and the logits over prompts and answers, with and without the adapter."""
    model = assistant.model
    answers = answer_all(assistant, prompts)
    texts = [(*p, *a) for p, a in zip(prompts, answers, strict=True)]
    margins = []

    def margin(number: int, logits: Tensor) -> None:
        top = logits[len(prompts[number]) - 1 :].topk(2).values
        margins.append(tuple((top[:, 0] - top[:, 1]).tolist()))

    logits = predictions(model, texts, margin)
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        base = predictions(model, texts)
    return Looked(answers, logits, base, tuple(margins))


@torch.inference_mode()
def predictions(
    model: Model, texts: Sequence[Sequence[int]], seen: Callable[[int, Tensor], None] | None = None
) -> Tensor:
    """The logits at the last positions of each text, as many as are kept; `seen` gets the number of a text and all of
    its logits."""
    kept: list[Tensor] = []
    for number, text in enumerate(texts):
        found: Tensor = model(input_ids=torch.tensor([text], device=model.device)).logits[0].float().cpu()
        if seen:
            seen(number, found)
        most = max(1, min(POSITIONS, NUMBERS // found.shape[-1]) // len(texts))
        kept.append(found[-most:].clone())
    return torch.cat(kept)


def difference(one: Tensor, other: Tensor, margin: float) -> Difference:
    """How far the logits of `other` are from those of `one`, [positions, vocabulary] both."""
    kl, top, decided, certain, largest = 0.0, 0, 0, 0, 0.0
    for mine, yours in _in_parts(one, other):
        p, q = mine.log_softmax(-1), yours.log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum())
        agree = mine.argmax(-1) == yours.argmax(-1)
        two = mine.topk(2).values
        clear = two[:, 0] - two[:, 1] > margin
        top, decided = top + int(agree.sum()), decided + int((agree & clear).sum())
        certain += int(clear.sum())
        largest = max(largest, float((mine - yours).abs().max()))
    count = one.shape[0]
    return Difference(largest, kl / count, top / count, decided / certain if certain else 1.0, count)


def _in_parts(one: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A few positions at a time, in float64: the divergence is much smaller than the terms of its sum."""
    for start in range(0, one.shape[0], 16):
        yield one[start : start + 16].double(), other[start : start + 16].double()


def compare_answers(shown: Sequence[str], tuned: Looked, answers: Sequence[Sequence[int]], margin: float) -> Answers:
    """How many answers are those of the tuned model, or differ only from a near tie on."""
    equal, ties, different = 0, 0, []
    for prompt, mine, yours, gaps in zip(shown, tuned.answers, answers, tuned.margins, strict=True):
        if tuple(mine) == tuple(yours):
            equal += 1
            continue
        # One may be the beginning of the other, which then ended there.
        at = next((i for i, (a, b) in enumerate(zip(mine, yours, strict=False)) if a != b), min(len(mine), len(yours)))
        if gaps[at] <= margin:
            ties += 1
        else:
            different.append(prompt)
    return Answers(len(shown), equal, ties, tuple(different))
