"""Whether a model really answers several rows as it answers one: tried on a few tokens before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.core.reading import reason
from llm_installer.inference.engine.masks import Mask, Masks, masks_of
from llm_installer.inference.engine.slots import Slots

Step = Callable[[Tensor, Tensor, Mask, Slots], Tensor]
"""Logits [rows, 1, vocabulary] after a token of each row: ids and positions [rows, 1], mask, slots."""
LENGTHS = (5, 9, 2)
STEPS = 3
NEAR = {torch.float32: 1e-3, torch.bfloat16: 0.06, torch.float16: 0.02}
"""Largest difference of logits, as a share of the largest logit."""
_BY_LENGTH = {"longrope", "dynamic"}
"""Kinds of positions that transformers counts by the longest text of a batch."""
_FAULTS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)
"""What a model that knows no such cache or mask raises."""


@dataclass(frozen=True)
class Tried:
    """What the trial found."""

    masks: Masks | None
    """Those by which rows are answered together; None where they cannot be."""
    why_alone: str = ""
    token_bytes: int = 0
    """Keys and values of one position of one row."""


def tried(model: PreTrainedModel) -> Tried:
    """Whether the model's rows can be answered together."""
    config = model.config.get_text_config()
    if getattr(model.config, "vision_config", None) is not None:
        return Tried(None, "it sees pictures")
    masks = masks_of(config, model.dtype)
    if masks is None:
        return Tried(None, "some of its layers keep more than keys and values")
    if _BY_LENGTH & _rope_types(getattr(config, "rope_parameters", None)):
        return Tried(None, "where a token stands means another thing in a longer text")
    slots = Slots(config.num_hidden_layers)
    try:
        apart = _apart(model, masks, slots)
    except _FAULTS as error:
        return Tried(None, f"it takes no rows of different lengths ({reason(error)})")
    if not apart <= NEAR.get(model.dtype, 0.0):
        return Tried(None, f"rows at once give other answers than alone, by {apart:.2g}")
    return Tried(masks, token_bytes=slots.token_bytes)


def steps_alike(model: PreTrainedModel, masks: Masks, step: Step) -> bool:
    """Whether steps done so give what the model gives for whole texts."""
    slots = Slots(model.config.get_text_config().num_hidden_layers)
    try:
        return _apart(model, masks, slots, step) <= NEAR.get(model.dtype, 0.0)
    except _FAULTS:
        return False


def _rope_types(given: object) -> set[object]:
    """How positions are turned into angles; some models have one such table for each kind of layer."""
    if not isinstance(given, Mapping):
        return set()
    return {given.get("rope_type")}.union(*map(_rope_types, given.values()))


@torch.inference_mode()
def _apart(model: PreTrainedModel, masks: Masks, slots: Slots, step: Step | None = None) -> float:
    """The largest difference of logits between rows that answer together and texts read whole."""
    size = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(size, (length + STEPS,), generator=generator).to(model.device) for length in LENGTHS]
    alone = [model(input_ids=text.unsqueeze(0), use_cache=False).logits[0] for text in texts]
    largest = max(float(logits.abs().max()) for logits in alone)
    together = _together(model, masks, slots, texts, step)
    pairs = [
        (together[step][row], alone[row][length - 1 + step])
        for row, length in enumerate(LENGTHS)
        for step in range(STEPS)
    ]
    return max(float((one - other).abs().max()) for one, other in pairs) / max(largest, 1e-6)


def _together(
    model: PreTrainedModel, masks: Masks, slots: Slots, texts: list[Tensor], step: Step | None
) -> list[Tensor]:
    """Logits [rows, vocabulary] after each step, the first being the prompts; by `step` where that is given."""
    longest = max(LENGTHS)
    ids = torch.stack([torch.cat([text, text])[:longest] for text in texts])  # what follows a prompt is never seen
    slots.reserve(len(texts), longest, 0)
    slots.reading(len(texts), 0, longest)
    at = torch.arange(longest, device=ids.device).expand(len(texts), -1)
    first = _forward(model, masks, slots, ids, at)
    found = [torch.stack([first[row, length - 1] for row, length in enumerate(LENGTHS)])]
    for done in range(STEPS - 1):
        at = torch.tensor([length + done for length in LENGTHS], device=ids.device)
        ids = torch.stack([text[length + done] for text, length in zip(texts, LENGTHS, strict=True)]).unsqueeze(1)
        slots.reserve(len(texts), longest + done + 1, longest + done)
        slots.stepping(at, int(at.max()) + 1)
        if step:
            logits = step(ids, at.unsqueeze(1), masks.of(at.unsqueeze(1), slots.length), slots)
        else:
            logits = _forward(model, masks, slots, ids, at.unsqueeze(1))
        found.append(logits[:, 0])
    return found


def _forward(model: PreTrainedModel, masks: Masks, slots: Slots, ids: Tensor, at: Tensor) -> Tensor:
    logits: Tensor = model(
        input_ids=ids,
        attention_mask=masks.of(at, slots.length),
        position_ids=at,
        past_key_values=slots.cache,
        use_cache=True,
    ).logits
    return logits
