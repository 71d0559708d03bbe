"""An end token that the base never met, and the row of output weights that an adapter brings for it.

Such a token has the output weights of many others: whatever the hidden state is, all of them are equally likely, so no
LoRA below the output layer can teach a model to end its answers. It gets a row of its own, random and as long as rows
usually are; the LoRA learns when to say it. The row itself is not trained. In the adapter's files it is one of PEFT's
trainable tokens, which take the place of the base's rows wherever the adapter is loaded.
"""

from __future__ import annotations

from typing import cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from llm_installer.core.text import shortened

SAME = 0.01
"""Largest distance between two rows of the output layer, as a share of their usual length, that makes them equal."""
MANY = 8
"""Other tokens with equal rows from which it is no coincidence."""
ROW = "token_adapter.trainable_tokens_delta"
_AT_ONCE = 1 << 12
"""Rows that are compared at once."""


@torch.no_grad()
def equal_rows(output: Tensor, token: int) -> int:
    """How many other rows of the output weights [vocabulary, hidden] equal that of `token`. Whatever the hidden state
    is, all of these tokens are then equally likely, and no LoRA below the output layer can change that."""
    return int((_lengths(output, output[token]) <= SAME * _lengths(output).median()).sum()) - 1


def _lengths(rows: Tensor, start: Tensor | None = None) -> Tensor:
    """The length of each row, or its distance from `start`."""
    found = rows.new_empty(len(rows), dtype=torch.float32)
    # One buffer: the C library finds no place for the next part where the last one was.
    buffer = rows.new_empty((min(_AT_ONCE, len(rows)), rows.shape[1]), dtype=torch.float32)
    for i in range(0, len(rows), _AT_ONCE):
        part = buffer[: len(rows) - i].copy_(rows[i : i + _AT_ONCE])
        torch.linalg.vector_norm(part if start is None else part.sub_(start), dim=1, out=found[i : i + _AT_ONCE])
    return found


@torch.no_grad()
def teach_end_token(model: PeftModel, token: int, name: str) -> str:
    """Give the token that ends answers, called `name`, output weights of its own where the base has none for it, and
    say so in a sentence; else do nothing and say nothing."""
    found = _output(model)
    if found is None or token >= len(found[1]):
        return ""
    path, weight = found
    equal, usual = equal_rows(weight, token), float(_lengths(weight).median())
    if equal < MANY or not usual:
        return ""
    row = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(token))
    weight[token] = (row / row.norm() * usual).to(weight)
    cast(LoraConfig, model.peft_config["default"]).trainable_token_indices = {path.rpartition(".")[2]: [token]}
    return (
        f"This base never learned its end token {shortened(name, 40)} ({equal:,} other tokens have the same output "
        "weights); the adapter brings weights of its own for it, so that answers can end."
    )


def taught_rows(model: PeftModel) -> dict[str, Tensor]:
    """The rows that teach_end_token gave, on the CPU, under the names PEFT saves such by."""
    given = getattr(model.peft_config["default"], "trainable_token_indices", None) or {}
    found = _output(model)
    if found is None or not given:
        return {}
    path, weight = found
    (tokens,) = given.values()
    return {f"base_model.model.{path}.{ROW}": weight[tokens].detach().to("cpu", copy=True).contiguous()}


def _output(model: PeftModel) -> tuple[str, Tensor] | None:
    """(the name of the layer that PEFT gives rows of output weights, these weights [vocabulary, hidden]); None where
    there are no plain ones, or a LoRA is on them, which can teach a token by itself."""
    base = model.get_base_model()
    layers = base.get_output_embeddings(), base.get_input_embeddings()  # type: ignore[operator]
    weight, words = (getattr(layer, "weight", None) for layer in layers)
    if not isinstance(weight, nn.Parameter) or any(isinstance(layer, LoraLayer) for layer in layers):
        return None
    if weight.ndim != 2 or not weight.is_floating_point():
        return None
    layer = layers[1] if words is weight else layers[0]  # PEFT gives the output layer what a tied embedding has
    path = next((name for name, module in base.named_modules() if module is layer), "")
    return (path, weight) if path else None
