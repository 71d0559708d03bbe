"""A model without its weights: which layers it has, and how large its adapters are, before anything is loaded."""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from llm_installer.core.errors import ModelError
from llm_installer.core.model_info import ModelInfo
from llm_installer.models.base import adapted, first_line, loader
from llm_installer.planning.plan import Plan


def skeleton(info: ModelInfo, plan: Plan) -> PeftModel:
    """The model of a plan with its adapters, all of it on torch's meta device, which holds shapes alone.

    Raises ModelError where transformers does not know the architecture, no layer matches, or PEFT refuses one.
    """
    try:
        config = AutoConfig.from_pretrained(info.path, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            kind = loader(info.path)
            bare: PreTrainedModel = kind.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ModelError(f"The model in {info.path} cannot be loaded: {first_line(error)}") from None
    with torch.device("meta"):
        return adapted(bare, plan)
