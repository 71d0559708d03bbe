"""How the adapters are made, on what kind of base, and with which optimizer; what excludes what, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.bounds import MOST
from llm_installer.planning.chooser import ALPHA, USUAL, YOURS, Chooser
from llm_installer.planning.layers import FLOAT8_MULTIPLE, float8_linears
from llm_installer.planning.optimizers import OPTIMIZERS, default_optimizer
from llm_installer.planning.options import Options
from llm_installer.planning.pairs import parse_pairs

Number = TypeVar("Number", int, float)

FLOAT8 = "fp8"
QUANTISED = {
    "nf4": "4-bit (NF4, double quantisation)",
    "int8": "8-bit (LLM.int8)",
    FLOAT8: "float8 (e4m3, a scale for each row)",
}
"""Ways to hold the frozen base in fewer bits, in words."""
QUANTISED_RATES = {"nf4": 0.8, "int8": 0.8}
"""Learning rate on a quantised base, as a multiple of that on an unquantised one (docs/guides/methods.md). In float8 it
is the same: products there are 4 % off, those with 4 bits 10 %."""
MOVES_BASE = ("pissa", "olora")
"""Initialisations that take something out of the base's weights; publishing the adapter restores the base."""


@dataclass(frozen=True)
class Method:
    """The kind of fine-tuning, beside rank, alpha and dropout."""

    quantised: str = ""
    """A name of QUANTISED; empty where the base is not quantised."""
    optimizer: str = "adamw_torch"
    """A name of planning.optimizers.OPTIMIZERS."""
    rslora: bool = False
    dora: bool = False
    init: str = "true"
    """How A and B are initialised: a value of --init-lora-weights."""
    loraplus_ratio: float = 1.0
    """Learning rate of B as a multiple of A's (Hayou et al., 2024, arXiv 2402.12354)."""
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    neftune_noise_alpha: float = 0.0
    """Size of the noise on embeddings (Jain et al., 2023, arXiv 2310.05914); 0 for none."""

    @property
    def name(self) -> str:
        """In a few words: what run headers and adapter_info.json say."""
        base = {"nf4": "qlora", "int8": "8-bit lora", FLOAT8: "fp8 lora"}.get(self.quantised, "lora")
        extras = {
            "dora": self.dora,
            "rslora": self.rslora,
            self.init: self.init != "true",
            "lora+": self.loraplus_ratio != 1,
            "neftune": self.neftune_noise_alpha > 0,
        }
        return " + ".join([base, *(word for word, on in extras.items() if on)])

    def scale(self, rank: int, alpha: float) -> float:
        """What the adapters' output is multiplied by."""
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def rate(self, rate: float, reason: str) -> tuple[float, str]:
        """The learning rate for this method and its reason, from those for AdamW on an unquantised base."""
        own = OPTIMIZERS[self.optimizer].rate_scale
        if scale := QUANTISED_RATES.get(self.quantised):
            rate, reason = rate * scale, f"{reason}, times {scale} for a quantised base"
        if own != 1:
            rate, reason = rate * own, f"{reason}, times {own:g} for {self.optimizer}"
        if self.loraplus_ratio != 1:
            rate, reason = rate / math.sqrt(self.loraplus_ratio), f"{reason}; LoRA+ puts A below it and B above"
        return rate, reason


PLAIN = Method()
"""LoRA on an unquantised base."""


def choose_method(options: Options, info: ModelInfo, hardware: Hardware, choose: Chooser) -> Method:
    """Decide it. Raises UsageError for an optimizer that this machine cannot run, and for what cannot be done with the
    weights as they are published."""
    optimizer = choose.pick("optimizer", options.optimizer, *default_optimizer(hardware.device))
    row = OPTIMIZERS[optimizer]
    if options.optimizer:
        choose.why["optimizer"] += f": {row.why}"
    if row.cuda and hardware.device != "cuda":
        raise UsageError(
            f"--optimizer {optimizer} moves its state between GPU and main memory, and there is no NVIDIA GPU here; "
            "use --optimizer adamw_bnb_8bit"
        )
    ranks = _numbers(options.rank_pattern, "--rank-pattern", int)
    alphas = _numbers(options.alpha_pattern, "--alpha-pattern", float)
    quantised = base_quantisation(quantisation(options), info, four_bits(options))
    _refuse_stored(options, info)
    if quantised == FLOAT8:
        _refuse_float8(info, hardware)
        if hardware.device == "cpu":
            choose.why["float8"] = "a CPU has no such products: this is to try the method out, and gains no time"
    choose.why["base_weights"] = _why_stored(info)
    asked = {f.name for f in fields(options) if getattr(options, f.name) != f.default}
    choose.why["method"] = YOURS if asked & _METHOD_OPTIONS else USUAL
    return Method(
        quantised=quantised,
        optimizer=optimizer,
        rslora=options.use_rslora,
        dora=options.use_dora,
        init=options.init_lora_weights,
        loraplus_ratio=options.loraplus_ratio or 1.0,
        rank_pattern=tuple(ranks.items()),
        alpha_pattern=tuple(alphas.items()),
        neftune_noise_alpha=options.neftune_noise_alpha or 0.0,
    )


def usual_alpha(options: Options) -> tuple[float, str]:
    """LoRA alpha where the user gives none, and why."""
    if options.use_rslora:
        return 16.0, "rsLoRA keeps it while the rank grows (Kalajdzievski, 2023, arXiv 2312.03732)"
    return ALPHA, "the same for every rank, so that the learning rate is, too"


def quantisation(options: Options) -> str:
    """The name in QUANTISED that the options ask for, or nothing."""
    if options.use_4bit or options.method == "qlora":
        return "nf4"
    return FLOAT8 if options.method == FLOAT8 else "int8" if options.use_8bit else ""


def four_bits(options: Options) -> str:
    """The option that asks for 4 bits, as the user typed it."""
    return "--method qlora" if options.method == "qlora" and not options.use_4bit else "--use-4bit"


def base_quantisation(asked: str, info: ModelInfo, four: str = "--use-4bit") -> str:
    """How the base is held: as its files are quantised, else as `asked`; `four` is the option that asks for 4 bits.

    Raises UsageError where the two contradict each other.
    """
    stored = info.stored
    if asked and stored.words and asked != stored.kept:
        ways = {"nf4": (four, "4 bits"), "int8": ("--use-8bit", "8 bits"), FLOAT8: ("--method fp8", "float8")}
        flag, bits = ways[asked]
        why = "" if stored.kept else " and dequantised when they are loaded"
        raise UsageError(
            f"{flag} asks for a base in {bits}, and the weights of {info.name} are published in {stored.words}{why}; "
            "leave the option out, or install the model that it was made from"
        )
    return stored.kept or asked


def _refuse_stored(options: Options, info: ModelInfo) -> None:
    """Raise UsageError for options that weights quantised in the files cannot serve."""
    published = f"{info.name} is published in {info.stored.words}; leave the option out"
    if info.stored.kept and options.init_lora_weights in MOVES_BASE:
        raise UsageError(f"--init-lora-weights {options.init_lora_weights} needs unquantised weights, and {published}")
    if info.stored.kept == "int8" and options.use_dora:
        raise UsageError(
            f"--use-dora needs the size of every weight, which PEFT cannot read from an 8-bit base, and {published}"
        )


def _refuse_float8(info: ModelInfo, hardware: Hardware) -> None:
    """Raise UsageError where this device, or this model, has no products in float8."""
    if hardware.device != "cpu" and not hardware.float8:
        raise UsageError(
            f"--method fp8 needs an NVIDIA GPU of 2022 or later (compute capability 8.9), and {hardware.name} has no "
            "products in float8; leave it out, or use --method qlora where memory is short"
        )
    if not float8_linears(info):
        raise UsageError(
            f"--method fp8 needs layers whose widths are multiples of {FLOAT8_MULTIPLE}, and {info.name} has none; "
            "leave it out"
        )


def _why_stored(info: ModelInfo) -> str:
    """The reason for how the base is held; empty where the options alone decide that."""
    if info.stored.kept:
        return f"as the model is published, with {info.stored.words}"
    return (
        f"dequantised when loaded: published in {info.stored.words}, which has no gradient" if info.stored.words else ""
    )


def _numbers(text: str | None, flag: str, kind: Callable[[str], Number]) -> dict[str, Number]:
    """The pairs of --rank-pattern and --alpha-pattern, checked."""
    found = {}
    for name, value in parse_pairs(text or "", flag).items():
        try:
            number = kind(value)
        except ValueError:
            number = kind("0")
        if not 0 < number <= MOST:
            wanted = "whole number" if kind is int else "number"
            most = "" if number <= 0 or math.isnan(number) else f" that is at most {MOST:,}"
            raise UsageError(
                f"{flag} {name}={value} is not a {wanted} above 0{most}; write it as {flag} q_proj=8,v_proj=16"
            )
        found[name] = number
    return found


_METHOD_OPTIONS = {
    "method", "use_4bit", "use_8bit", "use_rslora", "use_dora", "init_lora_weights", "loraplus_ratio",
    "neftune_noise_alpha",
}  # fmt: skip
