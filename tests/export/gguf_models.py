"""Tiny random models of each family that can be a GGUF file, with odd sizes, and what is read of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.families import FAMILIES
from llm_installer.export.gguf.read import load_model
from llm_installer.export.gguf.tensors import Planned, Read, plan_tensors
from llm_installer.export.gguf.write import write_gguf
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.from_files import without_weights

VOCAB = 320
PLAIN = {
    "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
    "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
GROUPED = PLAIN | {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4}
LAYERS = PLAIN | {"num_hidden_layers": 7}
NEOX = {
    "vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 72,
    "max_position_embeddings": 256,
}  # fmt: skip
GPT2 = {"vocab_size": VOCAB, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256}
ROPE = {"rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = ROPE | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**GROUPED, tie_word_embeddings=False),
    "llama-tied": lambda: LlamaConfig(**PLAIN, tie_word_embeddings=True),
    "llama-bias": lambda: LlamaConfig(**PLAIN, attention_bias=True, mlp_bias=True, head_dim=16),
    "llama3-rope": lambda: LlamaConfig(**PLAIN, rope_parameters=LLAMA3),
    "yarn": lambda: LlamaConfig(**PLAIN, rope_parameters=ROPE | {"rope_type": "yarn"}),
    "linear": lambda: Qwen2Config(**PLAIN, rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}),
    "mistral": lambda: MistralConfig(**PLAIN, head_dim=16, sliding_window=100),
    "qwen2": lambda: Qwen2Config(**PLAIN),
    "qwen3": lambda: Qwen3Config(**PLAIN | {"hidden_size": 64}, head_dim=32, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(
        **PLAIN | {"num_hidden_layers": 4}, head_dim=16, sliding_window=16, query_pre_attn_scalar=16
    ),
    "gemma3": lambda: Gemma3TextConfig(**LAYERS, head_dim=16, sliding_window=16, query_pre_attn_scalar=16),
    "phi3": lambda: Phi3Config(**PLAIN, sliding_window=None),
    "gpt2": lambda: GPT2Config(**GPT2, n_inner=100),
    "gpt2-untied": lambda: GPT2Config(**GPT2, tie_word_embeddings=False),
    "neox": lambda: GPTNeoXConfig(**NEOX, rope_parameters={"rope_theta": 500.0, "partial_rotary_factor": 0.5}),
    "neox-tied": lambda: GPTNeoXConfig(**NEOX, use_parallel_residual=False, tie_word_embeddings=True),
}


def make(kind: str, folder: Path) -> PreTrainedModel:
    """A random model, saved in `folder`; norms and biases are not left at 1 and 0."""
    return save(CONFIGS[kind](), folder)


def save(config: PretrainedConfig, folder: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, 0.0 if "bias" in name or weight.ndim > 1 else 1.0, 0.1)
    model.save_pretrained(folder)
    return model.eval()


def planned(folder: Path, kind: str = "f32") -> tuple[Read, list[Planned]]:
    bare = without_weights(folder)
    read = Read(folder, bare, FAMILIES[bare.config.model_type])
    return read, plan_tensors(read, kind)


def written(folder: Path, kind: str = "f32", change: Callable[[list[Planned]], list[Planned]] = list) -> Path:
    """The file of a model in a folder; `change` may spoil what is written."""
    read, tensors = planned(folder, kind)
    tokens: Values = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [str(n) for n in range(VOCAB)]}
    file = folder / "x.gguf"
    file.unlink(missing_ok=True)
    write_gguf(file, read.family.arch, tokens | read.family.values(read.facts), change(tensors), kind)
    return file


@torch.no_grad()
def apart(model: PreTrainedModel, file: Path, length: int = 200) -> float:
    """The largest difference of logits, over a text that is longer than windows and original contexts are."""
    loaded, _ = load_model(file, model.config, torch.float32)
    ids = torch.randint(3, VOCAB, (1, length), generator=torch.Generator().manual_seed(1))
    return float((loaded(ids).logits - model(ids).logits).abs().max())


def tokenizer_with(folder: Path, **parts: object) -> Path:
    """The built-in model's tokenizer with other parts of tokenizer.json."""
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    file = folder / "tokenizer.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    whole["model"] |= parts.pop("model", {})
    file.write_text(json.dumps(whole | parts), encoding="utf-8")
    return folder
