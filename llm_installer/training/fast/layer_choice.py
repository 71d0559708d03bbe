"""Which layers of a model are planned ahead: those whose code is known, that agree with their own forward in a trial.

Delete with layers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from types import FunctionType
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma.modeling_gemma import GemmaAttention
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral.modeling_mistral import MistralAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention

from llm_installer.training.fast.compiled import BROKEN, Compiler
from llm_installer.training.fast.context import Attention, Forward
from llm_installer.training.fast.cpu.native.layers import layer_kernels
from llm_installer.training.fast.cpu.native.library import library
from llm_installer.training.fast.gates import gated_mlp
from llm_installer.training.fast.layer_kernels import Form, LayerKernels, torch_kernels
from llm_installer.training.fast.layer_plan import Planner, Products, base_of
from llm_installer.training.fast.layers import Answering, Asking, DecoderLayer, LayerPlan
from llm_installer.training.fast.lora import forget_half_done, refusal, replace_forward
from llm_installer.training.fast.norms import rms_norm
from llm_installer.training.fast.watch import Watch

ROTARY = "apply_rotary_pos_emb"
ATTENTIONS = (llama.LlamaAttention, Qwen2Attention, GemmaAttention, MistralAttention)
"""Attention layers that are known; others count as known where they have the same code."""
PAYS = (torch.float32,)
"""Types in which a plan is faster on a CPU: 0.93 of the time at the width of 135 million parameters, 0.83 with 260
thousand; in bfloat16 it took 1.06."""
CLOSE = {torch.float32: 1e-5}
LOOSE = 3e-2
"""How far a planned layer may be from its own forward, as a share."""
ASKING, OUTPUT, GATED, LAST = ("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",)


def plan_layers(
    model: PeftModel, watch: Watch | None, compiler: Compiler | None = None, native: bool = True
) -> list[str]:
    """Give every layer that allows it its planned forward, where this device has kernels for that; a sentence that says
    how many. `native` is whether kernels may be compiled for this machine."""
    if watch is None or watch.flat.weights.device.type != "cpu" or watch.flat.dtype not in PAYS:
        return []
    in_c = native and watch.flat.dtype == torch.bfloat16 and library()[0] is not None
    return plan_with(model, watch, layer_kernels() if in_c else torch_kernels(compiler))


def plan_with(model: PeftModel, watch: Watch, kernels: LayerKernels, blocks: bool = False) -> list[str]:
    """The same with these kernels. `blocks` is whether the B of neighbours are multiplied as one matrix: fewer products
    and more arithmetic, which pays where a launch costs more than it computes; on a CPU it does not."""
    if not watch.flat.attached:
        return []
    names = {module: name for name, module in model.named_modules()}
    planner, planned = Planner(names, watch.flat, blocks), 0
    for layer in [module for module in names if known(module, watch.flat.dtype)]:
        forward = planned_forward(layer, _plan(cast(DecoderLayer, layer), planner, kernels), watch)
        if not planned and not agrees(model, layer, forward):
            break
        replace_forward(layer, forward)
        planned += 1
        for module in layer.modules():
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                watch.keeps(module.weight)
    watch.flat.zero_grad()
    return [f"{planned} layers planned ahead"] if planned else []


def known(layer: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a module is a decoder layer whose code is Llama's, of plain frozen parts and plain LoRA in this type."""
    if not _same_code(layer, llama.LlamaDecoderLayer):
        return False
    attention, mlp = (cast(nn.Module, getattr(layer, name, None)) for name in ("self_attn", "mlp"))
    gated = gated_mlp(mlp) if isinstance(mlp, nn.Module) else None
    norms = [getattr(layer, name, None) for name in ("input_layernorm", "post_attention_layernorm")]
    if gated is None or not all(isinstance(norm, nn.Module) and rms_norm(norm) for norm in norms):
        return False
    if not any(_same_code(attention, kind) for kind in ATTENTIONS) or not _same_code(mlp, llama.LlamaMLP):
        return False
    turn = unwrap(type(attention).forward).__globals__.get(ROTARY)
    if not _alike(turn, llama.apply_rotary_pos_emb) or bool(getattr(attention, "attention_dropout", False)):
        return False
    projections = [getattr(attention, name, None) for name in (*ASKING, *OUTPUT)]
    projections += [getattr(mlp, name, None) for name in (*GATED, *LAST)]
    if not all(isinstance(m, nn.Module) and _fits(m, dtype) for m in projections):
        return False
    plain = {id(m) for m in (attention, mlp, *norms, *projections)}
    hooked = [m for m in layer.modules() if m._forward_hooks or m._forward_pre_hooks]
    others = {id(m) for m in (*layer.children(), *attention.children())} - plain
    biases = [base_of(cast(nn.Module, m)).bias is not None for m in projections]
    alike = len(set(biases[:3])) == 1 and not any(biases[3:])
    return alike and not hooked and not others and len({_form(n) for n in cast(list[nn.Module], norms)}) == 1


def _fits(module: nn.Module, dtype: torch.dtype) -> bool:
    base = base_of(module)
    if isinstance(module, LoraLayer) and (refusal(module) or "forward" not in vars(module)):
        return False
    return type(base) is nn.Linear and base.weight.dtype == dtype and not base.weight.requires_grad


def _same_code(module: nn.Module, kind: type[nn.Module]) -> bool:
    return isinstance(module, nn.Module) and _alike(type(module).forward, kind.forward)


def _alike(one: object, other: object) -> bool:
    """Whether two functions do the same with the same names."""
    found = [unwrap(cast(Callable[..., object], f)) if f else None for f in (one, other)]
    a, b = (f.__code__ if isinstance(f, FunctionType) else None for f in found)
    if a is None or b is None:
        return False
    return bool(a.co_code == b.co_code and a.co_names == b.co_names and a.co_consts[1:] == b.co_consts[1:])


def _form(norm: nn.Module) -> Form:
    _, epsilon = cast(tuple[Tensor, float], rms_norm(norm))
    gemma = not hasattr(norm, "variance_epsilon")  # as in norms.py
    return Form(epsilon, 1.0 if gemma else 0.0, not gemma)


def _plan(layer: DecoderLayer, planner: Planner, kernels: LayerKernels) -> LayerPlan:
    attention, mlp = layer.self_attn, layer.mlp

    def products(owner: nn.Module, names: tuple[str, ...]) -> Products:
        return planner.products([cast(nn.Module, getattr(owner, name)) for name in names])

    width = cast(int, attention.head_dim)
    qkv = products(attention, ASKING)
    heads = tuple(n // width for n in qkv.widths)
    _, activation = cast(tuple[object, str], gated_mlp(mlp))
    return LayerPlan(
        qkv, products(attention, OUTPUT),
        products(mlp, GATED), products(mlp, LAST),
        cast(Tensor, layer.input_layernorm.weight).detach(),
        cast(Tensor, layer.post_attention_layernorm.weight).detach(),
        _form(layer.input_layernorm), activation, cast(tuple[int, int, int], heads), width, kernels,
    )  # fmt: skip


def planned_forward(layer: nn.Module, plan: LayerPlan, watch: Watch) -> Callable[..., Tensor]:
    """The forward of a planned layer; whatever it does not know goes to the layer's own."""
    own = cast(Forward, layer.forward)
    attention = cast(DecoderLayer, layer).self_attn
    settings = _settings(attention)
    config, leaf, dtype = cast(PreTrainedConfig, attention.config), watch.flat.leaf, watch.flat.dtype

    def forward(
        hidden_states: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        past_key_values: object = None, use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None, **more: object,
    ) -> Tensor:  # fmt: skip
        attend = ALL_ATTENTION_FUNCTIONS.get(config._attn_implementation)
        usable = watch.on and past_key_values is None and position_embeddings is not None and attend is not None
        if not usable or hidden_states.dtype != dtype or more.get("output_attentions"):
            return cast(
                Tensor,
                own(
                    hidden_states, attention_mask=attention_mask, position_ids=position_ids,
                    past_key_values=past_key_values, use_cache=use_cache, position_embeddings=position_embeddings,
                    **more,
                ),
            )  # fmt: skip
        cos, sin = cast(tuple[Tensor, Tensor], position_embeddings)

        def compute(hidden: Tensor) -> Tensor:
            q, k, v, residual = Asking.apply(hidden, leaf, plan, cos, sin)  # type: ignore[no-untyped-call]
            attended, _ = cast(Attention, attend)(
                attention, q, k, v, attention_mask, position_ids=position_ids, use_cache=use_cache, **settings, **more
            )
            result: Tensor = Answering.apply(attended, residual, leaf, plan)  # type: ignore[no-untyped-call]
            return result

        if layer.training and getattr(layer, "gradient_checkpointing", False):
            # transformers checkpoints in the forward that this one stands for.
            return cast(Tensor, cast(Forward, layer._gradient_checkpointing_func)(compute, hidden_states))
        return compute(hidden_states)

    return forward


def _settings(attention: nn.Module) -> dict[str, object]:
    """What an attention layer tells attention beside queries, keys, values and mask, when nothing is dropped."""
    own: dict[str, object] = {"scaling": attention.scaling, "dropout": 0.0}
    if _same_code(attention, Qwen2Attention):
        own["sliding_window"] = attention.sliding_window
    elif _same_code(attention, MistralAttention):
        own["sliding_window"] = getattr(attention.config, "sliding_window", None)
    return own


def agrees(model: PeftModel, layer: nn.Module, forward: Callable[..., Tensor]) -> bool:
    """Whether output and gradient by the input are those of the layer's own forward, as the model calls it."""
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []
    base = cast(PreTrainedModel, model.get_base_model())
    words = cast(nn.Embedding, base.get_input_embeddings()).weight
    ids = torch.arange(8, device=words.device).remainder(len(words)).unsqueeze(0)

    def note(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        calls.append((args, kwargs))

    handle = layer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
        handle.remove()
        (x, *_), kwargs = calls[0]
        given = cast(Tensor, x)
        random = torch.Generator().manual_seed(0)
        start = torch.randn(given.shape, generator=random).to(given.device, given.dtype)
        outer = torch.randn(given.shape, generator=random).to(given.device, given.dtype)
        results = []
        for way in (layer.forward, forward):
            leaf = start.clone().requires_grad_()
            with torch.enable_grad():
                output = cast(Callable[..., Tensor], way)(leaf, **kwargs)
                (gradient,) = torch.autograd.grad(output, leaf, outer)
            results.append((output.detach().float(), gradient.float()))
    except (*BROKEN, TypeError, ValueError, IndexError):
        forget_half_done(model)
        return False
    finally:
        handle.remove()
    limit = CLOSE.get(given.dtype, LOOSE)
    return all(bool((a - b).norm() <= limit * a.norm()) for a, b in zip(*results, strict=True))
