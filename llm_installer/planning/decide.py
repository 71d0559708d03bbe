"""The one decision: options, model, handler, hardware and data in; a plan with a reason for every value out."""

from __future__ import annotations

from dataclasses import replace

from llm_installer.core.handler import ALL_LINEAR, Handler
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.chooser import (
    PLAIN_PEFT,
    USUAL,
    Chooser,
    DataFacts,
    choose_precision,
    usual_rank,
    usual_rate,
)
from llm_installer.planning.compiling import choose_compiling
from llm_installer.planning.duration import choose_course, choose_mode
from llm_installer.planning.fitting import Fit
from llm_installer.planning.graphs import choose_graphs
from llm_installer.planning.layers import adapter_parameters
from llm_installer.planning.method import choose_method, usual_alpha
from llm_installer.planning.micro_batch import choose_micro_batch
from llm_installer.planning.modes import Mode
from llm_installer.planning.options import Options
from llm_installer.planning.packing import choose_packing
from llm_installer.planning.plan import Plan
from llm_installer.planning.ranks import ranks, words
from llm_installer.planning.setup import Adapters, Setup
from llm_installer.planning.sharding import asked_processes, shared_memory

SWITCH = {"on": True, "off": False}
"""What a switch of three positions says; the third is to say nothing."""


def make_plan(
    options: Options, info: ModelInfo, handler: Handler, hardware: Hardware, data: DataFacts, length: tuple[int, str]
) -> Plan:
    """Decide everything the user left open. `length` is the row limit and its reason, from choose_length.

    Raises UsageError when the options contradict each other.
    """
    mode, choose = choose_mode(options), Chooser()
    choose.why["max_seq_length"] = length[1]
    setup = _setup(options, info, handler, hardware, (length[0], data.answer_tokens), choose)
    course = choose_course(options, mode, data, choose)
    most_rows = data.rows if mode.cycles else course.effective_batch_size
    step_tokens = int(course.effective_batch_size * min(setup.longest, 2 * data.mean_length))
    fit, rows = choose_micro_batch(options, setup, most_rows, step_tokens, data.longest, choose)
    fit, graphs = _graphs(options, setup, fit, step_tokens, choose)
    return Plan(
        mode=mode.name,
        task=data.task,
        device=hardware.device,
        precision=setup.precision,
        lora_r=setup.adapters.rank,
        lora_alpha=setup.adapters.alpha,
        lora_dropout=setup.adapters.dropout,
        target_modules=setup.adapters.targets,
        fan_in_fan_out=handler.fan_in_fan_out,
        learning_rate=_learning_rate(options, setup, mode, choose),
        micro_batch_tokens=fit.tokens,
        micro_batch_rows=rows,
        packing=setup.packing,
        fast=setup.fast,
        kernels=_kernels(options),
        compiling=_compiling(options, setup, data.mean_length, data.rows * course.epochs, choose),
        checkpointed_layers=fit.checkpointed,
        predicted_peak_bytes=fit.peak,
        graphs=graphs,
        max_seq_length=setup.longest,
        course=course,
        seed=options.seed,
        order=options.order,
        rank_steps=_growing(options, choose),
        mix=data.mix,
        rows=data.rows,
        cycles=mode.cycles,
        weight_decay=choose.pick("weight_decay", options.weight_decay, 0.01, USUAL),
        max_grad_norm=choose.pick("max_grad_norm", options.max_grad_norm, 1.0, USUAL),
        method=setup.method,
        cut=data.cut,
        controller="none" if options.force_epochs else mode.controller,
        why=choose.why,
    )


def _setup(
    options: Options, info: ModelInfo, handler: Handler, hardware: Hardware, sizes: tuple[int, float], choose: Chooser
) -> Setup:
    """The adapters, the kind of fine-tuning and the precision; `sizes` are tokens of the longest row and of all
    answers. Raises UsageError as choose_method does."""
    longest, answers = sizes
    method = choose_method(options, info, hardware, choose)
    precision = choose.pick("precision", options.precision, *choose_precision(info, handler, hardware))
    given = tuple(options.target_modules.split(",")) if options.target_modules else None
    targets = choose.pick("target_modules", given, handler.target_modules, _why_targets(handler))
    rank, why = usual_rank(info, answers, adapter_parameters(info, 1, targets))
    asked = ranks(options.lora_r)
    adapters = Adapters(
        rank=choose.pick("lora_r", asked[-1] if asked else None, rank, why),
        alpha=choose.pick("lora_alpha", options.lora_alpha, *usual_alpha(options)),
        dropout=choose.pick("lora_dropout", options.lora_dropout, 0.0, "off; early stopping prevents overfitting"),
        targets=targets,
    )
    return Setup(
        model=info,
        hardware=replace(hardware, compiler=hardware.compiler and _kernels(options)),
        precision=precision,
        adapters=adapters,
        method=method,
        packing=_packing(options, choose, choose_packing(hardware, info, precision, bool(method.neftune_noise_alpha))),
        longest=longest,
        fast=_fast(options),
    )


def _growing(options: Options, choose: Chooser) -> tuple[int, ...]:
    """The ranks of a run whose rank grows; none where it does not."""
    asked = ranks(options.lora_r)
    if len(asked) < 2:
        return ()
    choose.why["lora_r"] = words(asked)
    return asked


def _why_targets(handler: Handler) -> str:
    if handler.target_modules == ALL_LINEAR:
        return "every linear layer learns more than attention alone"
    return f"the usual ones of {handler.name} models ({handler.source})"


def _graphs(options: Options, setup: Setup, fit: Fit, step_tokens: int, choose: Chooser) -> tuple[Fit, bool]:
    memory, sharded = shared_memory(setup, asked_processes(options, setup.hardware))
    found, on, why = choose_graphs(setup, memory, fit, step_tokens, sharded)
    if why:
        choose.why["graphs"] = why
    return found, on


def _fast(options: Options) -> bool:
    return options.fast == "on"


def _kernels(options: Options) -> bool:
    return _fast(options) and options.compile != "off"


def _learning_rate(options: Options, setup: Setup, mode: Mode, choose: Chooser) -> float:
    """The peak, from the size of the model, the mode and the method."""
    usual, why = usual_rate(setup.model)
    scale = mode.learning_rate_scale
    if scale != 1:
        why += f", times {scale:g} for mode {mode.name}"
    return choose.pick("learning_rate", options.learning_rate, *setup.method.rate(usual * scale, why))


def _packing(options: Options, choose: Chooser, suits: tuple[bool, str]) -> bool:
    if not _fast(options):
        choose.why["packing"] = PLAIN_PEFT
        return False
    return choose.pick("packing", SWITCH.get(options.packing or ""), *suits)


def _compiling(options: Options, setup: Setup, length: float, rows: float, choose: Chooser) -> bool:
    if not setup.fast:
        choose.why["compiling"] = PLAIN_PEFT
        return False
    return choose.pick("compiling", SWITCH.get(options.compile or ""), *choose_compiling(setup, length, rows))
