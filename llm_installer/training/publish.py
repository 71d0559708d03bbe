"""Writes the best weights as an adapter folder that PEFT, this program and a reader of JSON understand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peft import PeftModel

from llm_installer.core.errors import TrainingError
from llm_installer.core.examples import Kind
from llm_installer.core.files import write_json, write_text
from llm_installer.core.hub_base import HubBase
from llm_installer.core.model_card import model_card
from llm_installer.core.model_info import ModelInfo, fingerprint
from llm_installer.core.paths import Run
from llm_installer.core.speed import Speed
from llm_installer.core.state import Result, RunState
from llm_installer.core.text import short_path
from llm_installer.core.version import __version__
from llm_installer.data.encoding.encode import Encoder
from llm_installer.models.init_lora import restore_base
from llm_installer.planning.method import MOVES_BASE
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import Weights, adapter_weights, load_weights, save_adapter
from llm_installer.training.device_memory import peak_bytes

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True)
class Published:
    """What an adapter says about where it came from."""

    info: ModelInfo
    plan: Plan
    data: str
    kind: Kind
    encoder: Encoder
    speed: Speed | None = None
    base: HubBase | None = None
    """Where the base came from; None where that was a folder."""


def publish(model: PeftModel, weights: Weights, state: RunState, about: Published, run: Run, folder: Path) -> Result:
    """Put the best weights into the model and write them to `folder` as a complete adapter.

    Raises TrainingError where no loss of the run was a finite number.
    """
    if state.best_loss is None and state.step:
        raise TrainingError(
            f"The loss was never a finite number, so nothing is kept; ./lora is as it was (details: "
            f"{short_path(run.root)}). Try a lower learning rate, for example: --learning-rate 1e-4"
        )
    load_weights(model, weights)
    if about.plan.method.init in MOVES_BASE:
        restore_base(model)
        weights = adapter_weights(model)

    def extra(fresh: Path) -> None:
        about.encoder.tokenizer.save_pretrained(str(fresh))
        info = adapter_info(about, state)
        write_json(fresh / "adapter_info.json", info)
        write_text(fresh / "README.md", model_card(info, about.base, about.info.name))

    if about.base:
        config = model.peft_config["default"]
        config.base_model_name_or_path, config.revision = about.base.id, about.base.revision or None
    save_adapter(folder, model, weights, extra)
    return Result(
        run=run.root,
        adapter=folder,
        steps=state.step,
        best_step=state.best_step,
        base_loss=state.base_loss,
        best_loss=state.best_loss,
        stop_reason=state.stop_reason,
        improved=state.improved,
        speed=about.speed,
    )


def adapter_info(about: Published, state: RunState) -> dict[str, Any]:
    """Provenance of an adapter, as strict JSON."""
    template = str(about.encoder.tokenizer.chat_template)
    return {
        "base_model": {
            "name": about.info.name,
            "parameters": about.info.parameters,
            "fingerprint": fingerprint(about.info.path),
        },
        "method": about.plan.method.name,
        "quantised": about.plan.method.quantised or None,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": about.data,
        "style": "chat" if about.kind == "chat" else "text",
        "thoughts": about.encoder.template.thinks,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "base_loss": state.base_loss,
        "best_loss": state.best_loss,
        "best_step": state.best_step,
        "steps": state.step,
        "tokens": state.tokens,
        "stop_reason": state.stop_reason,
        "memory": {"predicted": about.plan.predicted_peak_bytes, "measured": peak_bytes(about.plan.device)},
        "speed": about.speed.to_json() if about.speed else None,
        "plan": about.plan.to_json(),
        "versions": {"llm_installer": __version__} | {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
