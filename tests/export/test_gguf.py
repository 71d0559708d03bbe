"""Weights of each family in a GGUF file, read back by transformers: equal to the model, and not without each change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from llm_installer.core.errors import DiskError, ModelError
from llm_installer.export.gguf.facts import Facts
from llm_installer.export.gguf.families import FAMILIES
from llm_installer.export.gguf.layout import by_kind, paired_keys, paired_queries
from llm_installer.export.gguf.read import read_values
from llm_installer.export.gguf.tensors import Planned
from llm_installer.export.gguf.write import write_gguf
from tests.export.gguf_models import CONFIGS, GPT2, LAYERS, NEOX, PLAIN, apart, make, planned, save, written


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_file_is_the_model(kind: str, tmp_path: Path) -> None:
    model = make(kind, tmp_path)
    assert not list(FAMILIES[model.config.model_type].problems(Facts(model.config.to_dict())))
    window = model.config.sliding_window if kind == "mistral" else 200
    assert apart(model, written(tmp_path), window) <= 1e-4


def test_beyond_a_window_that_is_not_read_the_file_would_be_another_model(tmp_path: Path) -> None:
    model = make("mistral", tmp_path)
    assert apart(model, written(tmp_path), 150) > 1e-3


def spoil(part: str, how: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[list[Planned]], list[Planned]]:
    """Write tensors with a name like this in another way."""

    def change(tensors: list[Planned]) -> list[Planned]:
        found = [
            replace(each, read=lambda r=each.read: [how(torch.cat(list(r())))]) if part in each.name else each
            for each in tensors
        ]
        assert found != tensors
        return found

    return change


def unpaired(heads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """As it was before its rows were paired."""
    return lambda w: w.reshape(heads, -1, 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


@pytest.mark.parametrize(
    ("kind", "part", "how"),
    [
        ("llama", ".attn_q.", unpaired(8)),
        ("llama", ".attn_k.", unpaired(4)),
        ("llama-bias", ".attn_k.bias", unpaired(2)),
        ("qwen3", ".attn_q.", lambda w: paired_queries(w, Facts({"num_attention_heads": 4}))),
        ("qwen2", ".attn_k.", lambda w: paired_keys(w, Facts({"num_key_value_heads": 2, "num_attention_heads": 4}))),
        ("gemma2", "norm.weight", lambda w: w - 1),
        ("gemma3", "norm.weight", lambda w: w - 1),
        ("gpt2", ".attn_output.weight", lambda w: w.T.contiguous()),
        ("neox", ".attn_qkv.weight", lambda w: by_kind(w, Facts({"num_attention_heads": 4}))),
    ],
)
def test_another_layout_is_another_model(
    kind: str, part: str, how: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    model = make(kind, tmp_path)
    assert apart(model, written(tmp_path, change=spoil(part, how))) > 1e-3


def test_metadata_says_what_the_config_does(tmp_path: Path) -> None:
    """What transformers does not read from a file is not proven by logits."""
    make("qwen3", tmp_path / "qwen3")
    values = read_values(written(tmp_path / "qwen3"))
    assert values["qwen3.attention.key_length"] == values["qwen3.attention.value_length"] == 32
    assert values["qwen3.attention.head_count_kv"] == 2
    make("neox", tmp_path / "neox")
    values = read_values(written(tmp_path / "neox"))
    assert (values["gptneox.rope.freq_base"], values["gptneox.rope.dimension_count"]) == (500.0, 6)
    assert values["gptneox.use_parallel_residual"] is True
    make("neox-tied", tmp_path / "tied")
    file = written(tmp_path / "tied")
    assert read_values(file)["gptneox.use_parallel_residual"] is False
    assert "output.weight" in {each.name for each in planned(tmp_path / "tied")[1]}
    make("gpt2", tmp_path / "gpt2")
    values = read_values(written(tmp_path / "gpt2"))
    assert (values["gpt2.feed_forward_length"], values["gpt2.context_length"]) == (100, 256)
    make("gemma3", tmp_path / "gemma3")
    values = read_values(written(tmp_path / "gemma3"))
    assert (values["gemma3.rope.freq_base"], values["gemma3.rope.freq_base_swa"]) == (1e6, 1e4)
    make("mistral", tmp_path / "mistral")
    assert read_values(written(tmp_path / "mistral"))["llama.context_length"] == 100  # its window is not read


def test_scaled_positions_are_written(tmp_path: Path) -> None:
    model = make("llama3-rope", tmp_path / "llama3")
    _, tensors = planned(tmp_path / "llama3")
    divisors = next(each for each in tensors if each.name == "rope_freqs.weight")
    usual = 1 / 500.0 ** (torch.arange(0, 12, 2) / 12)
    assert torch.allclose(usual / next(iter(divisors.read())), model.model.rotary_emb.inv_freq, rtol=1e-6)
    make("yarn", tmp_path / "yarn")
    values = read_values(written(tmp_path / "yarn"))
    assert values["llama.rope.scaling.type"] == "yarn"
    assert (values["llama.rope.scaling.factor"], values["llama.rope.scaling.original_context_length"]) == (4.0, 64)
    make("linear", tmp_path / "linear")
    values = read_values(written(tmp_path / "linear"))
    assert (values["qwen2.rope.scaling.type"], values["qwen2.rope.scaling.factor"]) == ("linear", 2.0)


DYNAMIC = {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (lambda: LlamaConfig(**PLAIN, rope_parameters=DYNAMIC), "'dynamic'"),
        (lambda: LlamaConfig(**PLAIN, hidden_act="gelu"), "activation"),
        (lambda: Qwen2Config(**PLAIN, use_sliding_window=True), "sliding window"),
        (lambda: Qwen3Config(**PLAIN, attention_bias=True), "biases"),
        (lambda: Gemma2Config(**PLAIN, query_pre_attn_scalar=7, head_dim=12), "query_pre_attn_scalar = 7"),
        (lambda: Gemma3TextConfig(**LAYERS, query_pre_attn_scalar=7, head_dim=12), "llama.cpp computes with 12"),
        (
            lambda: Gemma3TextConfig(
                **LAYERS, query_pre_attn_scalar=12, head_dim=12, layer_types=["full_attention"] * 7
            ),
            "sixth layer",
        ),
        (lambda: GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True), "unusual way"),
        (lambda: GPTNeoXConfig(**NEOX, attention_bias=False), "no biases"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(config: Callable[[], PretrainedConfig], why: str) -> None:
    made = config()
    assert any(why in wrong for wrong in FAMILIES[made.model_type].problems(Facts(made.to_dict())))


def test_gemma_with_an_output_layer_is_refused(tmp_path: Path) -> None:
    config = CONFIGS["gemma2"]()
    config.tie_word_embeddings = False
    save(config, tmp_path)
    with pytest.raises(ModelError, match="output layer of its own"):
        planned(tmp_path)


def test_tied_and_untied(tmp_path: Path) -> None:
    for kind, own in (("llama", True), ("llama-tied", False), ("gpt2", False), ("gpt2-untied", True)):
        make(kind, tmp_path / kind)
        assert ("output.weight" in {each.name for each in planned(tmp_path / kind)[1]}) is own


@pytest.mark.parametrize(("kind", "most"), [("f16", 1e-2), ("bf16", 1e-1), ("q8_0", 1.0)])
def test_smaller_types_round(kind: str, most: float, tmp_path: Path) -> None:
    model = make("llama", tmp_path)
    assert 0 < apart(model, written(tmp_path, kind)) < most


def test_rows_that_do_not_divide_stay_f16(tmp_path: Path) -> None:
    make("llama", tmp_path)  # rows of 64, but of 72 in ffn_down
    _, tensors = planned(tmp_path, "q8_0")
    assert {each.name for each in tensors if each.indivisible} == {f"blk.{n}.ffn_down.weight" for n in (0, 1)}
    types = {each.name: each.kind.name for each in tensors}
    assert types["blk.0.ffn_down.weight"] == "F16" and types["blk.0.attn_q.weight"] == "Q8_0"
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}


def test_numbers_beyond_f16_are_an_error(tmp_path: Path) -> None:
    model = make("llama-tied", tmp_path)
    with torch.no_grad():
        model.model.embed_tokens.weight[0, 0] = 1e6
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"token_embd\.weight holds numbers that f16 has no place for"):
        written(tmp_path, "f16")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    make("llama", tmp_path)
    read, tensors = planned(tmp_path)
    with pytest.raises(DiskError, match="cannot be written"):
        write_gguf(Path("/dev/full"), read.family.arch, {}, tensors, "f32")


KILLED = """
import os, signal, sys, warnings
from dataclasses import replace
from pathlib import Path
from tests.export.gguf_models import planned
from llm_installer.export.gguf.write import write_gguf
from llm_installer.export.place import partial_of, publish

folder, target = Path(sys.argv[1]), Path(sys.argv[2])
warnings.simplefilter("ignore")  # a fork beside threads, which are idle

def write(at):
    read, tensors = planned(folder)
    def until(number, way):
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return way()
    some = [replace(t, read=lambda n=n, way=t.read: until(n, way)) for n, t in enumerate(tensors)]
    write_gguf(partial_of(target), read.family.arch, {}, some, "f32")
    publish(partial_of(target), target)

for at in range(20):
    child = os.fork()
    if not child:
        write(at)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert {each.name for each in target.parent.iterdir()} <= {"m", partial_of(target).name}, at
write(-1)
"""


@pytest.mark.slow
def test_twenty_kills_leave_nothing_that_looks_complete(tmp_path: Path) -> None:
    model = make("llama-tied", tmp_path / "m")
    target = tmp_path / "x.gguf"
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m"), str(target)], check=True)
    assert {p.name for p in tmp_path.iterdir()} == {"m", "x.gguf"}  # the next one takes what was left
    weights = 4 * sum(weight.numel() for weight in model.parameters())
    assert weights <= target.stat().st_size < weights + 20_000
