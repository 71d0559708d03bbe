"""The two matrices of each weight that a LoRA changes, and what of an adapter two matrices cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm_installer.core.adapter_info import CONFIG, WEIGHT_NAMES
from llm_installer.core.errors import AdapterError
from llm_installer.core.json_file import read_object
from llm_installer.core.safetensors import read_header
from llm_installer.core.text import short_path, shortened
from llm_installer.export.changes import Change, Dora, LowRank
from llm_installer.export.subject import Subject, needed_lora


@dataclass(frozen=True, eq=False)
class Pair:
    """What is added to a weight [out, in]: b @ a."""

    a: Tensor
    """[rank, in], in float32."""
    b: Tensor
    """[out, rank], with the scale of the adapter in it."""
    lengths: Tensor | None = None
    """DoRA's length of each output, [out]."""

    @property
    def rank(self) -> int:
        return self.a.shape[0]


DORA = "DoRA"
_EMBEDDING = "a LoRA on the embedding"
_IN_CONFIG: tuple[tuple[str, Callable[[Mapping[str, object]], bool]], ...] = (
    (DORA, lambda config: bool(config.get("use_dora"))),
    ("trained biases", lambda config: config.get("bias") not in (None, "none") or bool(config.get("lora_bias"))),
    ("modules that were trained whole (modules_to_save)", lambda config: bool(config.get("modules_to_save"))),
    ("trained tokens, such as one that ends answers", lambda config: bool(config.get("trainable_token_indices"))),
    ("a LoRA on experts or single parameters", lambda config: bool(config.get("target_parameters"))),
)
_IN_NAMES = (
    (DORA, ("lora_magnitude_vector",)),
    ("modules that were trained whole (modules_to_save)", (".modules_to_save.",)),
    ("trained tokens, such as one that ends answers", ("trainable_tokens_delta",)),
    (_EMBEDDING, ("lora_embedding_A", "lora_embedding_B")),
    ("trained biases", (".bias",)),
)
"""What the names of an adapter's tensors contain that has them."""


def refuse_unsayable(subject: Subject, where: str, allowed: Sequence[str], tied: bool) -> None:
    """Raise AdapterError for an adapter that is more than two matrices for each weight; only names are read.

    `where` is what cannot say it; `allowed` names what it can; `tied` says whether the output layer is the embedding.
    """
    lora = needed_lora(subject)
    config, file = read_object(lora / CONFIG), lora / WEIGHT_NAMES[0]
    names = list(read_header(file)) if file.is_file() else []
    found = [what for what, has in _IN_CONFIG if has(config)]
    found += [what for what, parts in _IN_NAMES if any(part in name for name in names for part in parts)]
    if tied and any("lm_head." in name or "embed_out." in name for name in names):
        found.append("a LoRA on an output layer that is also the embedding")
    found += [f"more than LoRA: {name!r}" for name in names if ".lora_" not in name]
    refused = [what for what in found if what not in allowed]
    if refused:
        raise AdapterError(
            f"The adapter {short_path(lora)} has {shortened(refused[0], 150)}, which {where} cannot say; merge it "
            f"first with: {subject.merging()}, and export the model that it makes"
        )


def pairs(subject: Subject, changes: Mapping[str, Sequence[Change]], turned: Callable[[str], bool]) -> dict[str, Pair]:
    """The pair of each parameter; `turned` says whether that is stored [in, out].

    Raises AdapterError for what is no product of two matrices.
    """
    return {name: _pair(subject, name, each, turned(name)) for name, each in changes.items()}


def _pair(subject: Subject, name: str, changes: Sequence[Change], turned: bool) -> Pair:
    change = changes[0]
    low = change.low if isinstance(change, Dora) else change
    if len(changes) > 1 or not isinstance(low, LowRank) or low.left.ndim != 2:
        raise AdapterError(
            f"What the adapter does to {shortened(name, 100)} is no product of two matrices; merge it first with: "
            f"{subject.merging()}, and export the model that it makes"
        )
    b, a = (low.right.T, low.left.T) if turned else (low.left, low.right)
    lengths = change.magnitude.float() if isinstance(change, Dora) else None
    return Pair(a.float().contiguous(), b.float() * low.scale, lengths)


def padded(pair: Pair, rank: int) -> Pair:
    """The same product with more, empty rows and columns."""
    more = rank - pair.rank
    a = torch.cat([pair.a, pair.a.new_zeros(more, pair.a.shape[1])])
    b = torch.cat([pair.b, pair.b.new_zeros(pair.b.shape[0], more)], dim=1)
    return Pair(a, b, pair.lengths)
