"""From a plan to a trainer that is ready for its first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_installer.core.home import keep_triton_kernels
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.encode import Encoder
from llm_installer.distributed.placement import load_model
from llm_installer.models.end_token import teach_end_token
from llm_installer.models.float8 import refuse_untried
from llm_installer.models.quantise import check_ready
from llm_installer.models.skeleton import skeleton
from llm_installer.planning.method import FLOAT8
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import check_room
from llm_installer.training.fast.interface import prepare_process
from llm_installer.training.fixed_shapes import fix_shapes
from llm_installer.training.memory_probe import probe
from llm_installer.training.token_sizes import choose_size
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData


def load_trainer(plan: Plan, info: ModelInfo, encoder: Encoder, voice: Voice, answering: bool) -> Trainer:
    """The model with its LoRA and optimizer, on its device or sharded over all processes.

    `answering` says that it must generate while it trains. Raises ModelError or UsageError when it cannot be loaded.
    """
    keep_triton_kernels()
    prepare_process(plan.device, plan.fast)
    with voice.waiting("Loading the model"):
        loaded = load_model(info, plan, answering)
    if loaded.unquantised:
        voice.line(loaded.unquantised)
    end = encoder.stop_ids[0]
    name = str(encoder.tokenizer.decode([end])).strip()
    if not loaded.sharded and (taught := teach_end_token(loaded.model, end, name)):
        voice.line(taught)
    inputs = encoder.inputs if encoder.vision else None
    return Trainer(loaded.model, plan, encoder.eos, inputs, loaded.sharded)


def checked(plan: Plan, info: ModelInfo, folder: Path) -> Plan:
    """The plan, which then says what is adapted, once nothing is known to go wrong before a weight is loaded; the
    checkpoints will be below `folder`.

    Raises ModelError where no layer matches or one cannot be adapted, and TrainingError where a library that the method
    needs is missing, or there is no room for the checkpoints.
    """
    check_ready(plan.method)
    if plan.method.quantised == FLOAT8:
        refuse_untried(plan.device)
    model, chosen = skeleton(info, plan)
    check_room(folder, model)
    return replace(plan, adapted=chosen.value, why={**plan.why, "adapted": chosen.why})


def probe_memory(trainer: Trainer, data: TrainingData, voice: Voice, begins: bool) -> None:
    """One step and one evaluation on the longest rows; where they do not fit, the trainer's plan backs off. What fits
    may then have fixed shapes.

    `begins` is whether the run is at its start: larger micro-batches are then timed, where they can pay.
    """
    evaluated = [*data.train_slice, *data.validation]
    with voice.waiting("Probing memory with the longest rows"):
        probe(trainer, data.rows, evaluated, voice.line)
        if begins and choose_size(trainer, data.rows):
            voice.line(f"Micro-batches of {trainer.plan.micro_batch_tokens} tokens: {_why_tokens(trainer)}.")
            probe(trainer, data.rows, evaluated, voice.line)
    voice.line(f"Fast path: {'; '.join(trainer.notes)}.")
    fix_shapes(trainer, data, begins, voice.line)


def _why_tokens(trainer: Trainer) -> str:
    return trainer.plan.why["micro_batch_tokens"]
