"""A base that cannot tell its end token from others says so before it is trained."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from llm_installer.models.end_token import MANY, cannot_end, equal_rows
from llm_installer.tiny import MODEL_DIR


class Model(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight

    def get_output_embeddings(self) -> object:
        return self


def rows(equal: int) -> torch.Tensor:
    weight = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    weight[:equal] = weight[-1] + 1e-4
    return weight


def test_other_tokens_with_the_same_weights_are_counted() -> None:
    assert equal_rows(rows(MANY), 63) == MANY
    assert equal_rows(rows(MANY), 40) == 0


def test_a_coincidence_is_none() -> None:
    assert not cannot_end(Model(rows(MANY - 1)), 63, "</s>")
    said = cannot_end(Model(rows(MANY)), 63, "</s>")
    assert "never learned its end token </s> (8 other tokens have the same output weights)" in said


def test_packed_weights_and_missing_rows_say_nothing() -> None:
    assert not cannot_end(Model(torch.zeros(64, 8, dtype=torch.uint8)), 3, "</s>")
    assert not cannot_end(Model(rows(MANY)), 64, "</s>")


def test_real_models(shared: Path) -> None:
    """stories260K has met 343 of its tokens and ends its stories with <s>; tiny was taught to end its turns."""
    found = {}
    for folder in (shared / "models" / "stories260K", MODEL_DIR):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        found[folder.name] = equal_rows(model.get_output_embeddings().weight, 2)
    assert found == {"stories260K": 169, "model": 0}
