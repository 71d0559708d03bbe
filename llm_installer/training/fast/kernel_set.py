"""Kernels in the place of a model's own norms, gates and rotary embeddings, each after it has agreed with that.

A module takes one only where output and gradient are its own on random input of the shape that it is given. Whose
kernels they are is a row of its own: liger's on CUDA, ours in C on a CPU.
Delete, with the two sets of kernels, when transformers' `use_kernel_forward_from_hub` and `use_kernelized_func` have
kernels for training on both devices that need no download (transformers 5.23 takes them from the hub).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import unwrap
from types import FunctionType, MethodType
from typing import cast

import torch
from torch import Tensor, nn

from llm_installer.training.fast.context import Forward
from llm_installer.training.fast.cross_entropy import LogitRule, Score, cross_entropy_sum
from llm_installer.training.fast.gates import gated_mlp
from llm_installer.training.fast.lora import forget_half_done, replace_forward
from llm_installer.training.fast.norms import rms_norm

ROTARY = "apply_rotary_pos_emb"
"""What families of transformers call to turn queries and keys."""
FORMS = ((0.0, "llama"), (1.0, "gemma"), (0.0, "gemma"))
"""What norms add to their weight, and when they cast: after the root (llama) or at the end (gemma)."""
EXACT, LOOSE = 1e-4, 3e-2
"""How far results may be apart, in float32 and in 16 bits."""
FAILURES = (ImportError, OSError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError, KeyError,
            subprocess.SubprocessError)  # fmt: skip
"""What a library raises that does not fit the machine, its compiler or this program, beside Triton's own errors."""


@dataclass(frozen=True)
class Kernels:
    """What is taken from a library, as it is called here."""

    name: str
    """Whose they are, as sentences begin."""

    norm: Callable[[Tensor, Tensor, float, float, str], Tensor]
    """Of input, weight, epsilon, what is added to the weight, and when it casts."""
    gates: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
    """By the form of the activation: of gate and up."""
    rotary: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    """Of queries, keys, cosines and sines."""
    score: Score
    failures: tuple[type[Exception], ...] = FAILURES
    ignores: bool = False
    """Whether `score` knows targets that count for nothing."""


def put_on(model: nn.Module, kernels: Kernels) -> list[str]:
    """Give every module that agrees its kernel; sentences that say what was done."""
    mode = model.training
    model.eval()
    done: list[str] = []
    notes: list[str] = []
    try:
        calls = _calls(model, kernels)
        for kind, forwards_of in KINDS.items():
            own, taken, why = [], 0, ""
            for module, call in calls.items():
                forwards = forwards_of(module, kernels)
                chosen, failed = _first_that_agrees(module, forwards, call, kernels.failures)
                taken, why = taken + (chosen is not None), why or failed
                if chosen:
                    replace_forward(module, chosen)
                elif forwards:
                    own.append(module)
                if failed:  # a compiler that is missing would be missed for every layer
                    break
            done += [f"{taken} {kind}"] if taken else []
            if own:
                left = f"not for all {kind}" if taken else f"not for {kind}"
                notes.append(f"{kernels.name} {left}: {why or 'they compute something else in this model'}")
    finally:
        model.train(mode)
    return [*([f"{kernels.name} for {', '.join(done)}"] if done else []), *notes]


def scores_alike(kernels: Kernels, head: nn.Linear, rule: LogitRule) -> bool:
    """Whether loss and gradient of a few random rows are those that PyTorch computes."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, head.in_features, generator=random).to(head.weight.device, head.weight.dtype)
    targets = torch.randint(head.out_features, (5,), generator=random).to(hidden.device)
    found = []
    try:
        for score in (None, kernels.score):
            x = hidden.clone().requires_grad_()
            with torch.enable_grad():
                loss = cross_entropy_sum(x, head, targets, rule, score)
                found.append((loss, *torch.autograd.grad(loss, x)))
    except kernels.failures:
        return False
    return all(_close(own, plain) for plain, own in zip(*found, strict=True))


def first(error: Exception) -> str:
    """The first line of an error, or its type."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _norms(module: nn.Module, kernels: Kernels) -> list[Forward]:
    """What a frozen RMS norm may be."""
    found = rms_norm(module)
    if found is None:
        return []
    weight, epsilon = found

    def form(offset: float, casting: str) -> Forward:
        return cast(Forward, lambda x: kernels.norm(x, weight, epsilon, offset, casting))

    return [form(*each) for each in FORMS]


def _gates(module: nn.Module, kernels: Kernels) -> list[Forward]:
    """What a gated MLP may be."""
    found = gated_mlp(module)
    if found is None or found[1] not in kernels.gates:
        return []
    mlp, product = found[0], kernels.gates[found[1]]
    return [cast(Forward, lambda x: mlp.down_proj(product(mlp.gate_proj(x), mlp.up_proj(x))))]


def _rotary(module: nn.Module, kernels: Kernels) -> list[Forward]:
    """An attention layer's own forward with another rotary embedding.

    The name is looked up in a copy of the function's globals, so that no other model sees it: transformers has no place
    to put a function for one model. Delete when attention layers look it up in an attribute of their own.
    """
    own = unwrap(type(module).forward)
    if not isinstance(own, FunctionType) or ROTARY not in own.__code__.co_names or "forward" in vars(module):
        return []
    theirs = own.__globals__.get(ROTARY)
    if theirs is None:
        return []

    def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: object, **other: object) -> object:
        return theirs(q, k, cos, sin, *more, **other) if more or other else kernels.rotary(q, k, cos, sin)

    names = {**own.__globals__, ROTARY: rotary}
    forward = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    forward.__kwdefaults__ = own.__kwdefaults__
    return [cast(Forward, MethodType(forward, module))]


KINDS: dict[str, Callable[[nn.Module, Kernels], list[Forward]]] = {
    "norms": _norms,
    "gates": _gates,
    "rotary embeddings": _rotary,
}
"""What is replaced, and which forwards a module of that kind may have."""


@dataclass(frozen=True)
class _Call:
    """How the model calls one of its modules."""

    args: tuple[object, ...]
    kwargs: dict[str, object]

    @property
    def given(self) -> object:
        """What it is called on."""
        return self.args[0] if self.args else self.kwargs.get("hidden_states")

    def on(self, x: Tensor) -> _Call:
        """The same call on something else."""
        if self.args:
            return _Call((x, *self.args[1:]), self.kwargs)
        return _Call((), {**self.kwargs, "hidden_states": x})


def _calls(model: nn.Module, kernels: Kernels) -> dict[nn.Module, _Call]:
    """How a short text calls each module that may be replaced; what it does not reach is left alone."""
    found: dict[nn.Module, _Call] = {}
    wanted = [m for m in model.modules() if any(forwards_of(m, kernels) for forwards_of in KINDS.values())]

    def note(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        found[module] = _Call(args, kwargs)

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in wanted]
    words = model.get_input_embeddings().weight  # type: ignore[operator]
    try:
        with torch.no_grad():
            model(input_ids=torch.arange(8, device=words.device).remainder(len(words)).unsqueeze(0), use_cache=False)
    except FAILURES:  # a family that needs more than text
        forget_half_done(model)
    finally:
        for handle in handles:
            handle.remove()
    return {m: call for m, call in found.items() if isinstance(call.given, Tensor) and call.given.is_floating_point()}


def _first_that_agrees(
    module: nn.Module, forwards: list[Forward], call: _Call, failures: tuple[type[Exception], ...]
) -> tuple[Forward | None, str]:
    """(the first forward that gives what the module's own gives, why none could be tried)."""
    try:
        own = cast(Forward, MethodType(type(module).forward, module))
        plain = _result(own, call) if forwards else ()
        for forward in forwards:
            if all(_close(found, true) for found, true in zip(_result(forward, call), plain, strict=True)):
                return forward, ""
    except failures as error:
        forget_half_done(module)
        return None, first(error)
    return None, ""


def _result(forward: Forward, call: _Call) -> tuple[Tensor, Tensor]:
    """Output on random input, and a random gradient brought back through it."""
    random = torch.Generator().manual_seed(0)
    given = cast(Tensor, call.given)
    x = torch.randn(given.shape, generator=random).to(given.device, given.dtype).requires_grad_()
    with torch.enable_grad():
        call = call.on(x)
        output = forward(*call.args, **call.kwargs)
        output = output[0] if isinstance(output, tuple) else output
        outer = torch.randn(output.shape, generator=random).to(output.device, output.dtype)
        (gradient,) = torch.autograd.grad(output, x, outer)
    return output.detach(), gradient


def _close(own: Tensor, plain: Tensor) -> bool:
    apart = (own.float() - plain.float()).norm() if own.shape == plain.shape else torch.tensor(torch.inf)
    limit = EXACT if plain.dtype == torch.float32 else LOOSE
    return own.dtype == plain.dtype and bool(apart <= limit * plain.float().norm())
