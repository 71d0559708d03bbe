"""A base that cannot tell its end token from others gets output weights for it, which go with the adapter."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.end_token import MANY, ROW, equal_rows, taught_rows, teach_end_token
from llm_installer.training.checkpoint import adapter_weights, load_weights, save_adapter


def rows(equal: int) -> torch.Tensor:
    weight = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    weight[:equal] = weight[-1] + 1e-4
    return weight


def test_other_tokens_with_the_same_weights_are_counted() -> None:
    assert equal_rows(rows(MANY), 63) == MANY
    assert equal_rows(rows(MANY), 40) == 0


def base(tied: bool, equal: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.get_output_embeddings().weight.data = rows(equal)
    model.tie_weights()
    return model


def with_lora(model: LlamaForCausalLM) -> PeftModel:
    made = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert isinstance(made, PeftModel)
    return made.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 9, 63, 2]])).logits
    return found


def test_a_coincidence_is_none() -> None:
    model = with_lora(base(tied=True, equal=MANY - 1))
    before = logits(model)
    assert teach_end_token(model, 63, "</s>") == "" and taught_rows(model) == {}
    assert torch.equal(logits(model), before)


def test_a_token_beyond_the_output_says_nothing() -> None:
    assert teach_end_token(with_lora(base(tied=False, equal=MANY)), 64, "</s>") == ""


def test_a_lora_on_the_output_layer_can_teach_it_by_itself() -> None:
    made = get_peft_model(base(tied=False, equal=MANY), LoraConfig(r=2, target_modules=["lm_head"]))
    assert isinstance(made, PeftModel) and teach_end_token(made, 63, "</s>") == ""


def test_an_output_layer_of_zeros_stays_as_it_is() -> None:
    model = with_lora(base(tied=False, equal=MANY))
    model.get_output_embeddings().weight.data.zero_()
    assert teach_end_token(model, 63, "</s>") == "" and taught_rows(model) == {}


@pytest.mark.parametrize("tied", [True, False])
def test_plain_peft_loads_the_row_with_the_adapter(tmp_path: Path, tied: bool) -> None:
    model, untouched = with_lora(base(tied, MANY)), logits(base(tied, MANY))
    said = teach_end_token(model, 63, "</s>")
    assert "never learned its end token </s> (8 other tokens have the same output weights)" in said
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    weights = adapter_weights(model)
    save_adapter(tmp_path / "adapter", model, weights, lambda fresh: None)
    loaded = PeftModel.from_pretrained(base(tied, MANY), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-6)
    with loaded.disable_adapter():
        torch.testing.assert_close(logits(loaded), untouched, rtol=0, atol=1e-6)
    assert equal_rows(model.get_output_embeddings().weight, 63) == 0
    load_weights(model, {**weights, **taught_rows(model)})
    assert [name for name in taught_rows(model)] == [
        f"base_model.model.{'model.embed_tokens' if tied else 'lm_head'}.{ROW}"
    ]


def test_real_models(shared: Path) -> None:
    """stories260K has met 343 of its tokens and ends its stories with <s>; tiny was taught to end its turns."""
    found = {}
    for folder in (shared / "models" / "stories260K", MODEL_DIR):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        found[folder.name] = equal_rows(model.get_output_embeddings().weight, 2)
    assert found == {"stories260K": 169, "model": 0}
