"""A model of about 5 million parameters that has read some encyclopedia and web text, made here in minutes.

What is measured on it is what fine-tuning does to a base that knows its domain a little: the tiny models that lie at
hand have read children's stories alone.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = ("text/wiki_demo.txt", "text/c4_demo.jsonl")
VOCABULARY, LENGTH, ROWS = 2048, 256, 16
PASSES = 2
PEAK, WARM_UP = 2e-3, 50
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def make(source: Path, out: Path) -> None:
    """Write the model to `out`; the texts lie in `source`."""
    began = time.monotonic()
    texts = [text for name in TEXTS for text in _texts(source / name)]
    tokenizer = _tokenizer(texts)
    ids = torch.tensor(
        [i for text in texts for i in [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]]
    )
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    loss = _train(model, ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    size = sum(p.numel() for p in model.parameters())
    print(f"{out}: {size:,} parameters, {len(ids):,} tokens, {PASSES} passes, loss {loss:.3f}, "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip


def _texts(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines] if file.suffix == ".jsonl" else [each for each in lines if each]


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=["<s>", "</s>", "<pad>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _train(model: LlamaForCausalLM, rows: torch.Tensor) -> float:
    """Language modelling over the rows; the mean loss of the last fifth of the steps, in nats per token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95), weight_decay=0.1)
    steps = PASSES * len(rows) // ROWS
    order = torch.cat([torch.randperm(len(rows)) for _ in range(PASSES)])
    losses = []
    for step in range(steps):
        rate = min((step + 1) / WARM_UP, 0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * rate
        batch = rows[order[step * ROWS : (step + 1) * ROWS]]
        scores = model(input_ids=batch).logits[:, :-1]
        loss = cross_entropy(scores.flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} of {steps}: {losses[-1]:.3f}", flush=True)
    return sum(losses[-steps // 5 :]) / len(losses[-steps // 5 :])
