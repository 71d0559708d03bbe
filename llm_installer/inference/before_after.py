"""Before and after: base and tuned answers to the same prompts, in one process, adapter off and on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from llm_installer.core.examples import Example, Message
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.formats.turns import IMAGE_MARK
from llm_installer.inference.generate import Answer, Sampling, answers, answers_beside

ANSWER = Sampling(max_new_tokens=64)
TEXT_PROMPT_WORDS = 12
"""Most words of a validation text that both models are given to continue; of a short one it is half."""


@dataclass(frozen=True)
class Comparison:
    """One prompt with what the data says and what both models say."""

    prompt: str
    expected: str
    base: Answer
    tuned: Answer


@dataclass(frozen=True)
class Question:
    """What both models are asked, and how it is shown."""

    shown: str
    expected: str
    ids: list[int]
    images: tuple[str, ...] = ()


def compare(
    model: PeftModel, encoder: Encoder, examples: Sequence[Example], extra_prompt: str | None = None
) -> list[Comparison]:
    """Greedy answers to the last question of each example (and to `extra_prompt`), from base and tuned model."""
    model.eval()
    prompts = [p for example in examples if (p := question_of(encoder, example))]
    if extra_prompt:
        prompts.append(Question(extra_prompt, "", question_ids(encoder, extra_prompt, "chat")))
    if not prompts:
        return []
    ids, images = [p.ids for p in prompts], [p.images for p in prompts]
    if mixes(model) and not any(images):
        before, after = answers_beside(model, encoder, ids, ANSWER)
    else:
        with model.disable_adapter():
            before = answers(model, encoder, ids, ANSWER, images=images)
        after = answers(model, encoder, ids, ANSWER, images=images)
    return [Comparison(p.shown, p.expected, b, t) for p, b, t in zip(prompts, before, after, strict=True)]


def mixes(model: PeftModel) -> bool:
    """Whether PEFT can compute base and tuned model in one batch: its adapters are plain ones on linear layers."""
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    plain = all(isinstance(m, LoraLinear) and not any(m.use_dora.values()) for m in layers)
    return plain and not any(isinstance(m, AuxiliaryTrainingWrapper) for m in model.modules())


def different(examples: Sequence[Example], count: int) -> list[Example]:
    """At most `count` of the examples, from all of them, that ask different things."""
    some = [examples[i] for i in range(0, len(examples), max(1, len(examples) // 100))]
    return list({(example.prompt, example.images): example for example in some}.values())[:count]


def question_ids(encoder: Encoder, text: str, style: str) -> list[int]:
    """The ids that stand for a single question: through the template, or as plain text to continue."""
    return encoder.prompt_ids([Message("user", text)]) if style == "chat" else encoder.text_ids(text)


def question_of(encoder: Encoder, example: Example) -> Question | None:
    """The last question of an example; None when the template refuses it."""
    if example.kind == "text":
        words = example.messages[-1].content.split(" ")
        given = min(TEXT_PROMPT_WORDS, len(words) // 2)
        start = " ".join(words[:given])
        return Question(start, " ".join(words[given:]), encoder.text_ids(start))
    turns = list(example.messages)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    expected = turns.pop()
    if example.kind == "completion":
        prompt = "".join(m.content for m in turns)
        return Question(prompt, expected.content, encoder.text_ids(prompt))
    images = example.images[: sum(turn.content.count(IMAGE_MARK) for turn in turns)]
    try:
        ids = encoder.prompt_ids(turns, example.tools, images)
    except CannotRender:
        return None
    return Question(turns[-1].content if turns else "", expected.content, ids, images)
