"""Liger's real kernels against plain PEFT: prints what it found as JSON.

With TRITON_INTERPRET=1 on CPU tensors, in Triton's interpreter; else on CUDA. The interpreter's numbers are numpy's,
which has no bfloat16.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from liger_kernel.ops import cross_entropy, geglu, rms_norm
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from triton.runtime import interpreter

from llm_installer.training.device_memory import checkpoint_layers
from llm_installer.training.fast.cross_entropy import LogitRule
from llm_installer.training.fast.cuda.liger import load_kernels
from llm_installer.training.fast.document_attention import NAME, Documents, packed_forward
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.fast.kernel_set import put_on, scores_alike
from llm_installer.training.fast.loss import SupervisedLoss

SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=8)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0, residual_multiplier=0.5)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHAPE, partial_rotary_factor=0.5)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25)),
}


def mend_interpreter() -> None:
    """Triton's interpreter hands kernels a number as Python's own, without the methods of a tensor, and has no device
    functions: it is given both. The compiler needs neither."""
    own = interpreter._implicit_cvt

    def number(value: Any) -> Any:
        if not isinstance(value, float):
            return own(value)
        return tl.tensor(interpreter.TensorHandle(np.array([value], np.float32), tl.float32), tl.float32)

    interpreter._implicit_cvt = number
    rms_norm.rsqrt = lambda x: tl.rsqrt(x)
    geglu.tanh = cross_entropy.tanh = lambda x: 2 * tl.sigmoid(2 * x) - 1


def adapted(family: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    model = FAMILIES[family]()
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):
            nn.init.normal_(weight, mean=0.5, std=0.2)
    model.to(DEVICE, dtype).requires_grad_(False)
    config = LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", target_modules="all-linear")
    return get_peft_model(model, config).train()


def gradients(model: Any, head: SupervisedLoss, packed: bool = False) -> tuple[float, Tensor]:
    """Loss, and all gradients in one row, of three rows with scattered targets, or of one row of three documents."""
    ids = torch.randint(3, 300, (3, 20), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([3, 4, 5, 18, 20, 25, 38, 47, 58])
    targets = ids.reshape(-1)[places + 1]
    documents, extra = None, {}
    if packed:
        ids, documents = ids.view(1, 60), Documents.of((13, 20, 27), DEVICE)
        restarting = torch.cat([torch.arange(n) for n in documents.lengths])
        extra = {"position_ids": restarting.unsqueeze(0).to(DEVICE)}
    ids, places, targets = ids.to(DEVICE), places.to(DEVICE), targets.to(DEVICE)
    with packed_forward(documents) as more:
        loss = head(ids, places, targets, {**extra, **more})
        (loss / 7).backward()
    found = torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return float(loss.detach()), found


def compared(family: str, dtype: torch.dtype = torch.float32, packed: bool = False, layers: int = 0) -> dict[str, Any]:
    """Notes, and how far loss and gradients are from those of plain PEFT; with packed rows, or checkpointed layers."""
    kernels = load_kernels()
    plain, model, narrow = (adapted(family, kind) for kind in (torch.float32, dtype, dtype))
    for each in (plain, model, narrow):
        if packed:
            each.get_base_model().set_attn_implementation(NAME)
    bare = SupervisedLoss(plain)
    bare.fused = False
    loss, exact = gradients(plain, bare, packed)
    bare = SupervisedLoss(narrow)
    bare.fused = False
    theirs = gradients(narrow, bare, packed)[1]
    checkpoint_layers(model, layers)
    speed_up(model, kernels=False)  # on CUDA it would put them on by itself, and a second time they find their own
    notes = put_on(model, kernels)
    head = SupervisedLoss(model)
    alike = scores_alike(kernels, model.get_output_embeddings(), head.rule)
    head.score = kernels.score
    own, found = gradients(model, head, packed)
    return {
        "notes": notes,
        "loss": abs(own - loss) / loss,
        "gradient": float((found - exact).norm() / exact.norm()),
        "theirs": float((theirs - exact).norm() / exact.norm()),
        "score": alike and head.fused,
    }


def no_score(kind: str) -> bool:
    """Whether a kernel that spoils the gradient of the loss, and only that, is found out."""
    right = load_kernels()

    def wrong(logits: Tensor, targets: Tensor, rule: Any, wanted: bool) -> Tensor:
        loss = right.score(logits, targets, rule, wanted)
        logits.mul_(2)
        return loss

    model = adapted(kind, torch.float32)
    kernels = SimpleNamespace(score=wrong, failures=right.failures)
    return scores_alike(kernels, model.get_output_embeddings(), SupervisedLoss(model).rule)


if __name__ == "__main__":
    if INTERPRETED:
        mend_interpreter()
    narrow = torch.float16 if INTERPRETED else torch.bfloat16
    found = {family: compared(family) for family in FAMILIES}
    found |= {f"{family} in 16 bits": compared(family, narrow) for family in ("llama", "gemma2")}
    found |= {"packed": compared("llama", packed=True), "checkpointed": compared("gemma2", layers=2)}
    head = nn.Linear(8, 70_001).to(DEVICE).requires_grad_(False)  # more than one block of the kernel
    wide = scores_alike(load_kernels(), head, LogitRule(scale=0.5, softcap=2.0))
    print(json.dumps({**found, "wide score": wide, "wrong score": no_score("llama")}))
