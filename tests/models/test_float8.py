"""Linear layers in float8: what is stored, the product and its gradient, which layers are held so, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from llm_installer.core.errors import ModelError, TrainingError
from llm_installer.models import float8
from llm_installer.models.base import load_base
from llm_installer.models.float8 import (
    E4M3,
    Float8Linear,
    cast_back,
    cast_rows,
    hold_in_float8,
    is_float8,
    refuse_untried,
    unround,
    why_not,
)
from llm_installer.models.quantise import unquantised_line


def off(found: Tensor, true: Tensor) -> float:
    return float(((found.detach() - true.detach()).norm() / true.detach().norm()).float())


def layer(dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[nn.Linear, Float8Linear]:
    torch.manual_seed(0)
    plain = nn.Linear(64, 48, bias=bias).to(dtype).requires_grad_(False)
    return plain, Float8Linear(plain.weight, plain.bias)


def test_rows_are_cast_to_the_nearest_number_that_float8_has() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 48) * torch.logspace(-6, 6, 7)[:, None]
    rounded, scale = cast_rows(x)
    assert rounded.dtype == E4M3 and scale.shape == (7, 1)
    every = torch.arange(256, dtype=torch.uint8).view(E4M3).float()
    every = every[every.isfinite()]
    wanted = x / scale
    nearest = (wanted[..., None] - every).abs().amin(-1)
    assert ((rounded.float() - wanted).abs() <= nearest + 1e-3).all()
    assert (rounded.float().abs().amax(-1) == 448).all(), "each row uses all of the range"


def test_nothing_that_is_not_finite_is_hidden() -> None:
    x = torch.ones(3, 16)
    x[0, 3], x[1, 5] = float("nan"), float("inf")
    found = cast_back(*cast_rows(x))
    assert not found[0].isfinite().all() and not found[1].isfinite().all() and torch.allclose(found[2], x[2])
    assert cast_back(*cast_rows(torch.zeros(2, 16))).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("emulated", [False, True], ids=["torch", "dequantising"])
def test_output_and_gradient_are_those_of_the_rounded_numbers(
    dtype: torch.dtype, emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if emulated:
        monkeypatch.setattr(float8, "why_not", lambda device: "an older torch")
    elif why_not("cpu"):
        pytest.skip("this torch has no scaled product on CPUs")
    plain, made = layer(dtype)
    x = torch.randn(3, 5, 64).to(dtype).requires_grad_()
    result = made(x)
    outer = torch.randn_like(result)
    (found,) = torch.autograd.grad(result, x, outer)
    weight = cast_back(made.rounded, made.scale)
    rows = cast_back(*cast_rows(x.detach().view(-1, 64))).view(3, 5, 64)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    assert off(result.float(), rows @ weight.t() + plain.bias.float()) < tolerance
    folded, scale = cast_rows(outer.view(-1, 48), made.scale.t())
    true = (cast_back(folded, scale) @ made.rounded.float()).view(3, 5, 64)
    assert off(found.float(), true) < tolerance
    assert off(found.float(), outer.float() @ weight) < 0.04, "the exact gradient of the weight that was used, nearly"
    assert result.dtype == found.dtype == dtype


def test_a_layer_takes_one_byte_a_weight_and_saves_nothing_for_the_backward_pass() -> None:
    plain, made = layer(torch.bfloat16)
    assert made.weight.nbytes == plain.weight.nbytes // 2 and made.scale.nbytes == 4 * 48
    assert isinstance(made, nn.Linear) and not made.weight.is_floating_point(), "PEFT casts adapters to floating types"
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        made(torch.randn(4, 64, dtype=torch.bfloat16, requires_grad=True))
    assert kept == []


def test_layers_whose_widths_do_not_fit_stay_as_they_are(shared: Path) -> None:
    """A GPU multiplies widths in multiples of 16 only; a CPU would take 172, and say nothing."""
    folder = shared / "models" / "stories260K"
    model = load_base(folder, "float32", "cpu", "fp8")
    held = {n.rpartition(".")[2] for n, m in model.named_modules() if is_float8(m)}
    assert held == {"q_proj", "k_proj", "v_proj", "o_proj"}
    said = unquantised_line(model, float8=True)
    assert said.startswith("Not in float8, which takes linear layers with widths in multiples of 16: ")
    assert all(name in said for name in ("gate_proj", "up_proj", "down_proj")) and "lm_head" not in said
    with pytest.raises(ModelError, match="has no plain linear layer whose widths are multiples of 128"):
        hold_in_float8(load_base(folder, "float32", "cpu"), "cpu", multiple=128)


def test_a_base_is_taken_back_to_what_was_published(shared: Path) -> None:
    folder, ids = shared / "models" / "stories260K", torch.arange(3, 63).view(3, 20)
    model, whole = (load_base(folder, "float32", "cpu", way).eval() for way in ("fp8", ""))
    with torch.no_grad():
        true = whole(input_ids=ids).logits
        assert 0.001 < off(model(input_ids=ids).logits, true) < 0.05
        unround(model, whole)
        assert torch.equal(model(input_ids=ids).logits, true)


def test_a_gpu_without_such_products_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float8, "why_not", lambda device: "no kernel for sm_120")
    refuse_untried("cpu")
    with pytest.raises(TrainingError, match=r"--method fp8 cannot be used on this GPU \(no kernel for sm_120\); leave"):
        refuse_untried("cuda")
