"""Makes the built-in model `tiny` from scratch: its text, its tokenizer and its weights.

Run as: python -m tools.tiny.pretrain --out DIR [--seed 0] [--steps 2000] [--compile]

The shipped weights came from one run with `--seed 0 --compile`: 2,000 steps, 8.2 million tokens, 10.2 minutes on two
shared CPU cores, final loss 0.60. Text, order and initial weights depend on the seed alone; another processor may
round sums differently.
"""

import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.tiny.corpus import END, START, corpus

PAD, BETWEEN = "<|pad|>", "<|endoftext|>"
VOCABULARY = 2048
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENS_PER_STEP = 4096
SHORT_ROW, LONG_ROW = 256, 512
LONG_FROM = 0.8  # the last fifth of the steps sees long rows, so that positions up to 512 are trained
PEAK_LEARNING_RATE, WARM_UP = 3e-3, 100


def train_tokenizer(seed: int, documents: int = 20_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE with all 256 bytes in its alphabet, so that decoding restores any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END, BETWEEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(corpus(seed), documents), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START, BETWEEN],
        chat_template=TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of three million parameters, with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def rows(tokenizer: PreTrainedTokenizerFast, documents: Iterator[str], length: int) -> Iterator[list[int]]:
    """Rows of that length; each begins with a new document, so that the first one is read without another's facts."""
    (between,) = tokenizer.encode(BETWEEN)
    while True:
        row: list[int] = []
        while len(row) < length:
            row += [*tokenizer.encode(next(documents)), between]
        yield row[:length]


def learning_rate(step: int, steps: int) -> float:
    """The learning rate: linear warm-up, then a cosine down to zero."""
    if step < WARM_UP:
        return PEAK_LEARNING_RATE * (step + 1) / WARM_UP
    return PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, steps: int, fuse: bool) -> float:
    """Next-token training on all tokens; returns the mean loss of the last fifty steps."""
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    plain = [weight for weight in model.parameters() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        fused=True,
    )
    forward = torch.compile(model) if fuse else model
    documents = corpus(seed + 1)
    sources = {length: rows(tokenizer, documents, length) for length in (SHORT_ROW, LONG_ROW)}
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    for step in range(steps):
        length = SHORT_ROW if step < LONG_FROM * steps else LONG_ROW
        batch = torch.tensor(list(islice(sources[length], TOKENS_PER_STEP // length)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            loss = forward(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49:
            minutes = (time.monotonic() - started) / 60
            click.echo(f"step {step + 1:5d}  loss {sum(losses[-50:]) / 50:.4f}  {minutes:.1f} min")
    return sum(losses[-50:]) / 50


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bfloat16, and everything that the Auto classes of any recent transformers look for."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id, max_new_tokens=160
    )
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out, save_jinja_files=False)
    path = out / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in out.iterdir():
        file.chmod(0o644)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write the model to.")
@click.option("--seed", default=0, help="The same seed makes the same text and the same first weights.")
@click.option("--steps", default=2000, help="Optimizer steps of 4096 tokens each.")
@click.option("--compile", "fuse", is_flag=True, help="Compile the model first (needs a C++ compiler; faster).")
def main(out: Path, seed: int, steps: int, fuse: bool) -> None:
    """Pretrain the built-in model."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = make_model(tokenizer)
    click.echo(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens in the vocabulary")
    loss = train(model, tokenizer, seed, steps, fuse)
    save(model, tokenizer, out)
    click.echo(f"final loss {loss:.4f}, written to {out}")


if __name__ == "__main__":
    main()
