"""Tiny random models of several families as installed model directories, and adapters for them made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)

from llm_installer.core.paths import ModelDir
from llm_installer.install.installer import install
from llm_installer.install.tiny import MODEL_DIR

SIZES = {"vocab_size": 2048, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
ENDS = {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
PLAIN = {**SIZES, **HEADS, **ENDS}
MODELS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**PLAIN, tie_word_embeddings=False),
    "llama-tied": lambda: LlamaConfig(**PLAIN, tie_word_embeddings=True),
    "llama-bias": lambda: LlamaConfig(**PLAIN, tie_word_embeddings=False, attention_bias=True),
    "gpt2": lambda: GPT2Config(vocab_size=2048, n_embd=48, n_layer=2, n_head=4, n_positions=256, **ENDS),
    "qwen3": lambda: Qwen3Config(**PLAIN, head_dim=16, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(**PLAIN, head_dim=12, sliding_window=16, query_pre_attn_scalar=12),
    "mixtral": lambda: MixtralConfig(**PLAIN, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **PLAIN, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2, head_dim=12, tie_word_embeddings=False
    ),
}


def make_model(kind: str, folder: Path, dtype: torch.dtype = torch.float32, shards: str = "1GB") -> Path:
    """A random model of this kind with the built-in model's tokenizer, as transformers saves it."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(MODELS[kind]())
    for name, weight in model.named_parameters():  # norms and biases are not left at 1 and 0
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 0.0 if "bias" in name else 1.0, 0.1)
    model.to(dtype).save_pretrained(folder, max_shard_size=shards)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


def install_model(kind: str, folder: Path, **more: object) -> ModelDir:
    """The same as an installed model directory."""
    return install(str(make_model(kind, folder / kind, **more)), say=lambda text: None)  # type: ignore[arg-type]


def make_adapter(base: ModelDir, folder: Path, strength: float = 0.1, **settings: object) -> Path:
    """An adapter whose every tensor is random, as PEFT saves it."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base.weights)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | settings)  # type: ignore[arg-type]
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad:
            noise = torch.randn_like(weight) * strength
            weight.data = weight.data * (1 + noise) if "magnitude" in name else weight.data + noise
    adapted.save_pretrained(str(folder))
    return folder


def tuned_logits(base: ModelDir, lora: Path, ids: torch.Tensor) -> torch.Tensor:
    """What PEFT computes in float32."""
    model = AutoModelForCausalLM.from_pretrained(base.weights, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, str(lora)).eval()
    with torch.no_grad():
        found: torch.Tensor = adapted(input_ids=ids).logits
    return found


def logits_of(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """What transformers computes in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits
    return found
