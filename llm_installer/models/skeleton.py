"""A model without its weights: which layers it has, and how large its adapters are, before anything is loaded."""

from __future__ import annotations

import torch
from peft import PeftModel

from llm_installer.core.model_info import ModelInfo
from llm_installer.models.base import adapted, decoder_prefix
from llm_installer.models.from_files import without_weights
from llm_installer.models.targets import Targets, choose_targets
from llm_installer.planning.plan import Plan


def skeleton(info: ModelInfo, plan: Plan) -> tuple[PeftModel, Targets]:
    """The model of a plan with its adapters, all of it on torch's meta device, which holds shapes alone; and which of
    its layers have one.

    Raises ModelError where transformers does not know the architecture, no layer matches, or PEFT refuses one.
    """
    bare = without_weights(info.path)
    chosen = choose_targets(bare, plan.target_modules, decoder_prefix(bare))
    with torch.device("meta"):
        return adapted(bare, plan), chosen
