"""The table of a plan: what was decided, why, and which option overrides it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_installer.core.text import counted
from llm_installer.planning.chooser import PLAIN_PEFT, YOURS
from llm_installer.planning.method import FLOAT8, QUANTISED
from llm_installer.planning.modes import MODES, ORDERS, time_of
from llm_installer.planning.plan import Plan
from llm_installer.planning.saving import KEEPS, KEPT
from llm_installer.planning.settings import flag

OF_MODE = ("learning_rate", "epochs", "effective_batch_size", "schedule")
"""What a mode says, by the names of its reasons."""
YOURS_FIRST = "; your own settings override it"


_HELD = {"nf4": "use_4bit", "int8": "use_8bit", FLOAT8: "method"}
"""The option that asks for a base in fewer bits."""


@dataclass(frozen=True)
class PlanRow:
    """One decision."""

    name: str
    value: str
    why: str
    flag: str
    """The option that sets it, as it is typed; "" where none does."""


def plan_rows(plan: Plan) -> list[PlanRow]:
    """Every decision, as the table before training shows them: what is always decided, else what is on."""
    return [*_adapters(plan), *_method(plan), *_course(plan), *_memory(plan), *_end(plan)]


def _row(plan: Plan, name: str, value: object, key: str, option: str = "") -> PlanRow:
    """A row whose reason is plan.why[key]; `option` is the field of Options that sets it, where it is not the key."""
    return PlanRow(name, str(value), plan.why[key], flag(option or key))


def _adapters(plan: Plan) -> Iterator[PlanRow]:
    yours = any(plan.why[key].startswith(YOURS) for key in OF_MODE)
    mode = MODES[plan.mode]
    why = mode.why + (YOURS_FIRST if yours else f"; {time}" if (time := time_of(mode, plan.rows, plan.task)) else "")
    yield PlanRow("mode", plan.mode, why, flag("mode"))
    yield _row(plan, "precision", plan.precision, "precision")
    yield _row(plan, "LoRA rank", ", ".join(map(str, plan.rank_steps or (plan.lora_r,))), "lora_r")
    yield _row(plan, "LoRA alpha", f"{plan.lora_alpha:g}", "lora_alpha")
    yield _row(plan, "LoRA dropout", f"{plan.lora_dropout:g}", "lora_dropout")
    yield _row(plan, "target modules", ", ".join(plan.target_modules), "target_modules")
    if plan.adapted:
        yield _row(plan, "adapted", plan.adapted, "adapted", "target_modules")


def _method(plan: Plan) -> Iterator[PlanRow]:
    method = plan.method
    yield _row(plan, "method", method.name, "method")
    published = plan.why.get("base_weights", "")
    if method.quantised:
        option = "" if published else flag(_HELD[method.quantised])
        kept = published or plan.why.get("float8") or "frozen; embeddings and output layer are not quantised"
        bits = QUANTISED[method.quantised].partition(" ")[0]
        yield PlanRow("base weights", bits if published else QUANTISED[method.quantised], kept, option)
    elif published:
        yield PlanRow("base weights", plan.precision, published, "")
    formula = "alpha / sqrt(rank)" if method.rslora else "alpha / rank"
    yield PlanRow("LoRA scale", f"{method.scale(plan.lora_r, plan.lora_alpha):g}", formula, flag("use_rslora"))
    if ranks := ", ".join(f"{name}: {rank}" for name, rank in method.rank_pattern):
        yield PlanRow("per-layer ranks", ranks, YOURS, flag("rank_pattern"))
    if alphas := ", ".join(f"{name}: {alpha:g}" for name, alpha in method.alpha_pattern):
        yield PlanRow("per-layer alphas", alphas, "follows the rank unless you set it", flag("alpha_pattern"))
    yield _row(plan, "optimizer", method.optimizer, "optimizer")
    if method.loraplus_ratio != 1:
        yield PlanRow("LoRA+ ratio", f"{method.loraplus_ratio:g}", YOURS, flag("loraplus_ratio"))
    if method.neftune_noise_alpha:
        yield PlanRow("NEFTune noise", f"{method.neftune_noise_alpha:g}", YOURS, flag("neftune_noise_alpha"))


def _course(plan: Plan) -> Iterator[PlanRow]:
    course = plan.course
    passes = f"{course.epochs:g}" if course.total_steps else "no end"
    yield _row(plan, "learning rate", f"{plan.learning_rate:g}", "learning_rate")
    yield _row(plan, "warm-up", counted(course.warmup_steps, "step") if course.warmup_steps else "none", "warmup_steps")
    yield _row(plan, "LR schedule", course.schedule.replace("_", " "), "schedule", "lr_scheduler")
    if plan.cycles:
        yield _row(plan, "cycles", passes, "epochs", "max_circular_epochs")
    else:
        yield _row(plan, "epochs", passes, "epochs")
    yield _row(plan, "weight decay", f"{plan.weight_decay:g}", "weight_decay")
    yield _row(plan, "gradient clipping", f"norm {plan.max_grad_norm:g}", "max_grad_norm")
    yield _row(plan, "batch size", course.effective_batch_size, "effective_batch_size")


def _memory(plan: Plan) -> Iterator[PlanRow]:
    step = plan.rows if plan.cycles else plan.course.effective_batch_size
    rows = f"{counted(plan.micro_batch_rows, 'row')}, " if plan.micro_batch_rows < step else ""
    yield _row(plan, "micro-batch", f"{rows}{plan.micro_batch_tokens} tokens", "micro_batch_tokens", "batch_size")
    if not plan.fast:
        yield PlanRow("fast paths", "off", PLAIN_PEFT, flag("fast"))
    yield _row(plan, "packing", "on" if plan.packing else "off", "packing")
    if why := plan.why.get("graphs"):
        yield PlanRow("CUDA graphs", "on" if plan.graphs else "off", why, flag("fast"))
    if plan.compiling:
        yield _row(plan, "torch.compile", "on", "compiling", "compile")
    if plan.checkpointed_layers:
        layers = counted(plan.checkpointed_layers, "layer")
        yield _row(plan, "gradient checkpointing", layers, "checkpointed_layers", "gradient_checkpointing")
    yield _row(plan, "sequence length", f"{plan.max_seq_length} tokens", "max_seq_length")
    if plan.cut.rows:
        yield PlanRow("cut rows", plan.cut.value, plan.cut.why, flag("max_seq_length"))


def _end(plan: Plan) -> Iterator[PlanRow]:
    course = plan.course
    usual = course.evaluation_every
    every = "every step" if usual == 1 else f"every {counted(usual, 'step')}"
    if course.early_evaluation_every not in (0, usual):
        every += f", at first every {course.early_evaluation_every}"
    stop = f"patience {course.limits.patience}, gap {course.limits.overfitting_threshold:.0%}"
    stop = stop if "patience" in course.stop_rules else ", ".join(course.stop_rules)
    yield PlanRow("steps", str(course.total_steps or "no end"), plan.why["total_steps"], "")
    yield PlanRow("evaluation", every, plan.why["evaluation_every"], "")
    yield _row(plan, "early stopping", stop, "limits", "patience")
    yield PlanRow("checkpoints", str(KEPT + 1), KEEPS, "")
    yield PlanRow("order", plan.order, ORDERS[plan.order], flag("order"))
    yield PlanRow("seed", str(plan.seed), "the same seed repeats a run", flag("seed"))
