"""Answers from a model: greedy or sampled, one by one with streaming, or several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from llm_installer.data.encoding.encode import Encoder
from llm_installer.models.base import model_inputs

Model = PreTrainedModel | PeftModel
BASE, ADAPTER = "__base__", "default"
"""Names that PEFT has for the base alone, and for the one adapter of a run."""


class Generates(Protocol):
    """What every causal language model of transformers has, though PreTrainedModel does not declare it."""

    generation_config: GenerationConfig

    def generate(self, **arguments: object) -> Tensor:
        """Token ids [rows, prompt + new]."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy and repeatable."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seconds: float | None = None
    """After so many it ends where it is; None: it takes its time."""
    stops: tuple[int, ...] = ()
    """Tokens that end it, besides the encoder's."""


@dataclass(frozen=True)
class Answer:
    """What the model said, and whether it ended by itself rather than at the length limit."""

    text: str
    ended: bool
    tokens: int = 0
    """How many it made, with the one that ended it."""


class _Stream:
    """Turns the tokens that generate() puts here into text as soon as it is certain (transformers' streamers)."""

    def __init__(self, decode: Callable[[list[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode, self._on_text = decode, on_text
        self._ids: list[int] = []
        self._shown = 0
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:  # the first call carries the prompt
            self._prompt = False
            return
        self._ids += value.flatten().tolist()
        text = self._decode(self._ids)
        if not text.endswith("\ufffd"):  # a character may need several tokens
            self._show(text)

    def end(self) -> None:
        self._show(self._decode(self._ids))

    def _show(self, text: str) -> None:
        self._on_text(text[self._shown :])
        self._shown = max(self._shown, len(text))


def answer(
    model: Model,
    encoder: Encoder,
    ids: Sequence[int],
    sampling: Sampling,
    on_text: Callable[[str], None] | None = None,
    images: Sequence[str] = (),
) -> Answer:
    """Continue one prompt, made with `images`; `on_text` gets the text piece by piece as it is made."""

    def decode(tokens: list[int]) -> str:
        return str(encoder.tokenizer.decode(tokens, skip_special_tokens=True))

    stream = _Stream(decode, on_text) if on_text else None
    return _texts(encoder, _generate(model, encoder, [ids], sampling, [images], {"streamer": stream}))[0]


def answers(
    model: Model,
    encoder: Encoder,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    at_once: int = 16,
    images: Sequence[Sequence[str]] = (),
) -> list[Answer]:
    """Continue several prompts, `at_once` of them in a batch, padded on the left so that each continues from its own
    end; `images` are those of each prompt, where there are any."""
    found: list[Answer] = []
    for start in range(0, len(prompts), at_once):
        some = slice(start, start + at_once)
        found += _texts(encoder, _generate(model, encoder, prompts[some], sampling, images[some]))
    return found


def answers_beside(
    model: PeftModel, encoder: Encoder, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> tuple[list[Answer], list[Answer]]:
    """What the base and the tuned model continue the same prompts with, all in one batch."""
    both = {"adapter_names": [name for name in (BASE, ADAPTER) for _ in prompts]}
    said = _texts(encoder, _generate(model, encoder, [*prompts, *prompts], sampling, extra=both))
    return said[: len(prompts)], said[len(prompts) :]


def samples(model: Model, encoder: Encoder, start: Sequence[int], count: int, sampling: Sampling) -> list[list[int]]:
    """`count` continuations of the same ids, at once: the new ids of each, without the special token that ended it."""
    # Any special token ends a sample: what follows may need an image, or be the turn of somebody else.
    special = tuple(i for i, token in encoder.tokenizer.added_tokens_decoder.items() if token.special)
    sampling = replace(sampling, stops=special)
    made = _generate(model, encoder, [start] * count, sampling)
    return [ids[: _end(ids, {*encoder.stop_ids, *special})] for ids in made]


def _texts(encoder: Encoder, made: Sequence[Sequence[int]]) -> list[Answer]:
    """Texts up to the first stop token."""
    ends = [(ids, _end(ids, {*encoder.stop_ids})) for ids in made]
    return [
        Answer(encoder.tokenizer.decode(ids[:end], skip_special_tokens=True), end < len(ids), min(end + 1, len(ids)))
        for ids, end in ends
    ]


@torch.inference_mode()
def _generate(
    model: Model,
    encoder: Encoder,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    images: Sequence[Sequence[str]] = (),
    extra: Mapping[str, object] | None = None,
) -> list[list[int]]:
    """The new ids of each prompt, up to the longest; `extra` goes to the model's generate."""
    longest = max(len(p) for p in prompts)
    pad = encoder.eos
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    inputs = model_inputs(encoder.inputs(ids.cpu().numpy(), images), model.device, model.dtype)
    chosen: dict[str, object] = {"do_sample": False}
    if sampling.temperature > 0:
        chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    with _plain_generation_config(model):
        made = cast(Generates, model).generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_new_tokens,
            max_time=sampling.seconds,
            eos_token_id=[*encoder.stop_ids, *sampling.stops],
            pad_token_id=pad,
            use_cache=True,
            **chosen,
            **inputs,
            **(extra or {}),
        )
    return [row[longest:].tolist() for row in made]


def _end(ids: Sequence[int], stops: AbstractSet[int]) -> int:
    """The position of the first stop token."""
    return next((i for i, t in enumerate(ids) if t in stops), len(ids))


@contextmanager
def _plain_generation_config(model: Model) -> Iterator[None]:
    """Without the model's own sampling settings, which would mix with ours and warn; ours are complete."""
    base = cast(Generates, model.get_base_model() if isinstance(model, PeftModel) else model)
    before = base.generation_config
    base.generation_config = GenerationConfig(bos_token_id=before.bos_token_id)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        base.generation_config = before
