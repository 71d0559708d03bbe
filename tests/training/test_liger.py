"""Which modules take liger's kernels and which keep their own; and, where the library is, the kernels themselves."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, silu
from transformers import CohereConfig, CohereForCausalLM, GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from llm_installer.core.hints import pip
from llm_installer.training.fast import kernel_set
from llm_installer.training.fast.cross_entropy import LogitRule, cross_entropy_sum
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.fast.kernel_choice import choose
from llm_installer.training.fast.kernel_set import FAILURES, Kernels, put_on, scores_alike
from llm_installer.training.fast.loss import SupervisedLoss

SHAPE = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=8)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25)),
}


def norm(x: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    root = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + epsilon)
    return (x.float() * root * (weight.float() + offset)).to(x.dtype)


def score(logits: Tensor, targets: Tensor, rule: LogitRule, wanted: bool) -> Tensor:
    with torch.enable_grad():
        values = logits.detach().float().requires_grad_()
        scaled = values * rule.scale
        if rule.softcap:
            scaled = rule.softcap * torch.tanh(scaled / rule.softcap)
        loss = cross_entropy(scaled, targets, reduction="sum")
        logits.copy_(torch.autograd.grad(loss, values)[0] if wanted else logits)
    return loss.detach()


RIGHT = Kernels(
    "liger's kernels",
    norm,
    {"silu": lambda gate, up: silu(gate) * up, "tanh": lambda gate, up: gelu(gate, approximate="tanh") * up},
    modeling_llama.apply_rotary_pos_emb,
    score,
)
"""What the library computes, in PyTorch."""


class Halved(torch.autograd.Function):
    """The right output with a wrong gradient."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate) * up

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor]:
        return outer / 2, outer / 2


def raises(error: Exception) -> Any:
    def kernel(*_args: Any) -> Any:
        raise error

    return kernel


def adapted(family: str, **changed: Any) -> Any:
    torch.manual_seed(0)
    model = FAMILIES[family]().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.normal_(weight, mean=0.5, std=0.2)
    config = LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", target_modules="all-linear", **changed)
    return get_peft_model(model, config).train()


def gradients(model: Any) -> Tensor:
    ids = torch.arange(24).remainder(60).view(2, 12)
    model(input_ids=ids, labels=ids).loss.backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_modules_that_agree_take_the_kernels(family: str) -> None:
    model = adapted(family)
    expected = gradients(model)
    rotary = modeling_llama.apply_rotary_pos_emb
    notes = put_on(model, RIGHT)
    assert notes == ["liger's kernels for 5 norms, 2 gates, 2 rotary embeddings"]
    assert model.training and modeling_llama.apply_rotary_pos_emb is rotary
    found = gradients(model)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert sum("forward" in vars(m) for m in model.modules()) == 9


def test_they_replace_the_lean_pieces() -> None:
    model, plain = adapted("llama"), adapted("llama")
    notes = speed_up(model)
    assert not any("liger" in note for note in notes), "nobody asks for it on a CPU"
    before = {n: vars(m)["forward"] for n, m in model.named_modules() if "forward" in vars(m)}
    put_on(model, RIGHT)
    changed = [n for n, m in model.named_modules() if vars(m).get("forward") not in (None, before.get(n))]
    assert len(changed) == 9
    assert torch.allclose(gradients(model), gradients(plain), rtol=1e-3, atol=1e-5)


OTHER = "they compute something else in this model"
WRONG = [
    ({"norm": lambda *a: norm(*a) * 1.01}, "norms", OTHER),
    ({"norm": lambda *a: norm(*a).double()}, "norms", OTHER),
    ({"gates": {"silu": Halved.apply}}, "gates", OTHER),
    ({"rotary": lambda q, k, cos, sin: (q, k)}, "rotary embeddings", OTHER),
    ({"rotary": raises(RuntimeError("no C compiler\nat all"))}, "rotary embeddings", "no C compiler"),
    ({"norm": raises(AssertionError())}, "norms", "AssertionError"),
    ({"norm": lambda x: x}, "norms", ".*takes 1 positional argument.*"),
]


@pytest.mark.parametrize(("changed", "kind", "why"), WRONG, ids=[f"{kind} {i}" for i, (_, kind, _) in enumerate(WRONG)])
def test_a_kernel_that_does_not_fit_is_left_out_and_said(changed: Any, kind: str, why: str) -> None:
    model = adapted("llama")
    expected = gradients(model)
    notes = put_on(model, dataclasses.replace(RIGHT, **changed))
    counts = {"norms": 5, "gates": 2, "rotary embeddings": 2}
    rest = ", ".join(f"{n} {k}" for k, n in counts.items() if k != kind)
    assert (
        notes[0] == f"liger's kernels for {rest}"
        and sum("forward" in vars(m) for m in model.modules()) == 9 - counts[kind]
    )
    assert len(notes) == 2 and re.fullmatch(f"liger's kernels not for {kind}: {why}", notes[1])
    assert torch.allclose(gradients(model), expected, rtol=1e-3, atol=1e-6)


def test_another_rotary_embedding_stays() -> None:
    model = adapted("cohere")
    notes = put_on(model, RIGHT)
    assert notes == ["liger's kernels for 2 gates", f"liger's kernels not for rotary embeddings: {OTHER}"]
    assert sum("forward" in vars(m) for m in model.modules()) == 2


class Method(nn.Module):
    """An attention layer whose rotary embedding is a method of its own."""

    def apply_rotary_pos_emb(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_rotary_pos_emb(x)


def test_a_method_of_that_name_is_not_a_rotary_embedding_of_transformers() -> None:
    assert kernel_set._rotary(Method(), RIGHT) == []


def test_a_norm_that_is_trained_stays() -> None:
    model = adapted("llama", modules_to_save=["model.norm"])
    assert put_on(model, RIGHT) == ["liger's kernels for 4 norms, 2 gates, 2 rotary embeddings"]
    (kept,) = (m for n, m in model.named_modules() if n.endswith("modules_to_save.default"))
    assert "forward" not in vars(kept)


class Picky(nn.Module):
    """A model that wants more than text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(4, 8)
        self.norm = modeling_llama.LlamaRMSNorm(8).requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: Tensor, use_cache: bool, pixels: Tensor) -> Tensor:
        raise AssertionError


def test_a_model_that_cannot_read_a_short_text_is_left_alone() -> None:
    model = Picky()
    assert put_on(model, RIGHT) == [] and model.training
    assert not model.norm._forward_pre_hooks


@pytest.fixture
def afresh() -> Iterator[None]:
    choose.cache_clear()
    yield
    choose.cache_clear()


def test_on_other_devices_the_library_is_not_even_looked_for() -> None:
    assert choose("cpu", torch.float32) == choose("mps", torch.float16) == (None, "")


@pytest.mark.skipif(find_spec("liger_kernel") is not None, reason="liger-kernel is installed")
def test_where_it_is_not_installed_one_sentence_says_what_to_type(afresh: None) -> None:
    sentence = f"PyTorch's own norms, gates and rotary embeddings: {pip('liger-kernel')} brings faster ones"
    assert choose("cuda", torch.float16) == (None, sentence)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise OSError('no driver\\nfound')", "no driver"),
        ("", "No module named 'liger_kernel.ops'"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_a_library_that_cannot_be_used_is_one_sentence(
    afresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    (tmp_path / "liger_kernel").mkdir()
    (tmp_path / "liger_kernel" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.partition(".")[0] == "liger_kernel"]:
        monkeypatch.delitem(sys.modules, name)
    kernels, sentence = choose("cuda", torch.float16)
    sys.modules.pop("liger_kernel", None)
    assert kernels is None
    assert sentence == f"PyTorch's own norms, gates and rotary embeddings: liger-kernel cannot be used ({why})"


RULES = [LogitRule(), LogitRule(scale=0.25), LogitRule(softcap=0.5), LogitRule(scale=3.0, softcap=2.0)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_kernel_for_the_loss_must_agree_in_loss_and_gradient(rule: LogitRule) -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 60).requires_grad_(False)
    assert scores_alike(RIGHT, head, rule)

    def bent(logits: Tensor, targets: Tensor, rule: LogitRule, wanted: bool) -> Tensor:
        loss = score(logits, targets, rule, wanted)
        logits.mul_(1.01)
        return loss

    for other in (bent, lambda *a: score(*a) * 1.01, raises(TypeError("unexpected keyword"))):
        assert not scores_alike(dataclasses.replace(RIGHT, score=other), head, rule)


def test_chunks_of_the_loss_go_through_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 60).requires_grad_(False)
    hidden, targets = torch.randn(50, 16, requires_grad=True), torch.randint(60, (50,))
    seen: list[int] = []

    def counted(logits: Tensor, *rest: Any) -> Tensor:
        seen.append(len(logits))
        return score(logits, *rest)

    plain = cross_entropy_sum(hidden, head, targets, LogitRule())
    (expected,) = torch.autograd.grad(plain, hidden)
    monkeypatch.setattr("llm_installer.training.fast.cross_entropy.MOST_ROWS", 16)
    own = cross_entropy_sum(hidden, head, targets, LogitRule(), counted)
    (found,) = torch.autograd.grad(own, hidden)
    assert seen == [16, 16, 16, 2]
    assert torch.allclose(own, plain, rtol=1e-6) and torch.allclose(found, expected, atol=1e-6)


def test_on_a_cpu_the_loss_is_pytorchs() -> None:
    head = SupervisedLoss(adapted("llama"))
    assert head.fused and head.score is None and head.note == "fused loss: logits one chunk at a time"


def test_failures_are_named_and_not_everything() -> None:
    assert not {Exception, BaseException, KeyboardInterrupt} & set(FAILURES)
    assert not issubclass(KeyboardInterrupt, FAILURES) and kernel_set.first(ValueError("a\nb")) == "a"


here = pytest.mark.skipif(
    find_spec("liger_kernel") is None or find_spec("triton") is None, reason="liger-kernel and triton are not installed"
)


def real(**environment: str) -> dict[str, Any]:
    """What the library's own kernels give, in a process of their own."""
    worker = Path(__file__).with_name("liger_worker.py")
    path = os.pathsep.join(p for p in (str(Path(__file__).parents[2]), *sys.path) if p)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(worker)],
        env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def check(found: dict[str, Any]) -> None:
    assert found.pop("wide score") and not found.pop("wrong score")
    assert len(found) > 8
    for name, each in found.items():
        exact = "16" not in name
        assert each["score"], name
        assert each["loss"] < (1e-6 if exact else 1e-2), name
        assert each["gradient"] < (1e-5 if exact else 1.5 * each["theirs"]), name
    counts = {"llama": 5, "qwen2": 5, "qwen3": 9, "gemma": 5, "gemma2": 9, "granite": 5}
    for name, norms in counts.items():
        assert found[name]["notes"] == [f"liger's kernels for {norms} norms, 2 gates, 2 rotary embeddings"]
    assert found["phi3"]["notes"] == ["liger's kernels for 5 norms, 2 rotary embeddings"]
    assert found["cohere"]["notes"][1:] == [f"liger's kernels not for rotary embeddings: {OTHER}"]


@here
@pytest.mark.slow
def test_the_real_kernels_equal_plain_peft_in_tritons_interpreter() -> None:
    check(real(TRITON_INTERPRET="1"))


@here
@pytest.mark.cuda
def test_the_real_kernels_equal_plain_peft_on_cuda() -> None:
    check(real(TRITON_INTERPRET="0"))
