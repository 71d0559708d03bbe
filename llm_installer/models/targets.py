"""Which layers of a model get a LoRA: those that are named, or every linear one but routers and what PEFT refuses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from peft import LoraConfig
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from torch import nn
from transformers import PreTrainedModel

from llm_installer.core.errors import ModelError
from llm_installer.core.handler import ALL_LINEAR, EXPERTS
from llm_installer.core.text import counted
from llm_installer.planning.registry import check_targets

_ROUTERS = ("router", "gate", "shared_expert_gate")
"""Names of what decides, for each token, which experts count: a LoRA there unbalances what was learned with care."""
_STEP, _STATE = ".dt_proj", "A_log"
"""The layer of a Mamba block whose weight transformers multiplies by itself, and what such a block is known by."""
_ONE_EXPERT = re.compile(r"\.experts\.\d+\.")
_NUMBER = re.compile(r"\.\d+(?=\.)")


@dataclass(frozen=True)
class Targets:
    """The layers that get a LoRA, and those that do not although everything was asked for; names as in the model."""

    layers: tuple[str, ...]
    experts: tuple[str, ...] = ()
    """Parameters that hold all routed experts of a layer in one block."""
    routers: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """Layers that PEFT refuses."""
    bypassed: tuple[str, ...] = ()
    """Layers whose weight the model reads itself, so that a LoRA beside it would never be used."""
    has_experts: bool = False

    @property
    def value(self) -> str:
        """How many are adapted, in words."""
        layers = [counted(len(self.layers), "layer")] if self.layers else []
        blocks = [f"{counted(len(self.experts), 'block')} of routed experts"] if self.experts else []
        return " and ".join([*layers, *blocks])

    @property
    def why(self) -> str:
        """Their names, and what is left alone."""
        groups = ((self.routers, "router"), (self.refused, "PEFT refuses it"), (self.bypassed, "a LoRA has no effect"))
        left = [f"{_named(names)} ({why})" for names, why in groups if names]
        if self.has_experts and not self.experts:
            left.append("routed experts (add the word experts to --target-modules)")
        return _named([*self.layers, *self.experts]) + (f"; left alone: {', '.join(left)}" if left else "")


def choose_targets(model: PreTrainedModel, wanted: tuple[str, ...], prefix: str = "") -> Targets:
    """What `wanted` matches in a model, below the module whose name is `prefix`.

    Names are matched as PEFT does. `all-linear` is every linear layer but the output; routers, routed experts and what
    PEFT refuses only count when they are named. Raises ModelError where a name matches nothing.
    """
    named = tuple(name for name in wanted if name != EXPERTS)
    linear = [n for n, module in model.named_modules() if is_linear(module) and n.startswith(prefix)]
    parameters = ((n, p) for n, p in model.named_parameters() if n.startswith(prefix))
    blocks = [n for n, p in parameters if p.ndim == 3 and n.rpartition(".")[0].endswith(f".{EXPERTS}")]
    apart = [n for n in linear if _ONE_EXPERT.search(n)]
    has_experts = bool(blocks or apart)
    if EXPERTS in wanted and not has_experts:
        raise ModelError("This model has no routed experts; leave the word experts out of --target-modules")
    asked = apart if EXPERTS in wanted else []
    experts = tuple(blocks) if EXPERTS in wanted else ()
    if named != ALL_LINEAR:
        layers = _by_name(model, linear, named, has_experts) if named else ()
        return Targets(tuple(dict.fromkeys([*layers, *asked])), experts, has_experts=has_experts)
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    every = [n for n in linear if model.get_submodule(n) is not output and n not in apart]
    check_targets(every, named)
    routers = _routers(model, every)
    refused = tuple(n for n in every if n not in routers and _is_refused(model, n))
    bypassed = tuple(
        n for n in every if n.endswith(_STEP) and hasattr(model.get_submodule(n.removesuffix(_STEP)), _STATE)
    )
    layers = tuple(n for n in every if n not in {*routers, *refused, *bypassed})
    return Targets((*layers, *asked), experts, routers, refused, bypassed, has_experts)


def _by_name(model: nn.Module, linear: list[str], named: tuple[str, ...], has_experts: bool) -> tuple[str, ...]:
    """The layers with these names. Raises ModelError where there is none, or it is a router that PEFT cannot adapt."""
    try:
        layers = check_targets(linear, named)
    except ModelError as error:
        raise ModelError(f"{error}{', and the word experts for routed experts' if has_experts else ''}") from None
    for name in _routers(model, layers):
        router = type(model.get_submodule(name))
        # That of Llama 4 also returns its scores.
        if router.forward is not nn.Linear.forward and not router.__module__.startswith("bitsandbytes"):
            raise ModelError(
                f"{name.rpartition('.')[2]} is a router that computes in its own way, and PEFT cannot adapt it; "
                "leave it out of --target-modules"
            )
    return layers


def is_linear(module: nn.Module) -> bool:
    """Whether it is a layer that a LoRA can be put on by its name."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _routers(model: nn.Module, linear: Iterable[str]) -> tuple[str, ...]:
    """Those of the layers that stand beside experts and are named as routers are, or lie in one."""
    beside = {name.rpartition(".")[0] for name, _ in model.named_modules() if "expert" in name.rpartition(".")[2]}
    found = []
    for name in linear:
        parts = name.split(".")
        if any(part in _ROUTERS and ".".join(parts[:i]) in beside for i, part in enumerate(parts)):
            found.append(name)
    return tuple(found)


def _is_refused(model: nn.Module, name: str) -> bool:
    try:
        _check_lora_target_modules_mamba(LoraConfig(), model, name.rpartition(".")[2])
    except ValueError:
        return True
    return False


def _named(names: Iterable[str]) -> str:
    """Names with how often they occur; with that of their parent where it takes that to tell them apart."""
    found = Counter(_NUMBER.sub("", name) for name in names)
    short = Counter(name.rpartition(".")[2] for name in found)
    shown = {
        n: n.rpartition(".")[2] if short[n.rpartition(".")[2]] == 1 else ".".join(n.split(".")[-2:]) for n in found
    }
    return ", ".join(f"{count:,} {shown[name]}" for name, count in found.items())
