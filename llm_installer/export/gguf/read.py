"""A GGUF file read back: its metadata, and a model of its tensors as transformers computes it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFReader, GGUFValueType, get_tensor_name_map
from gguf.quants import dequantize
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel

from llm_installer.core.errors import ModelError
from llm_installer.export.gguf.facts import Facts, Values
from llm_installer.export.gguf.families import FAMILIES, Family, alone


def read_values(file: Path) -> Values:
    """The metadata of a file, with whole arrays."""
    reader = GGUFReader(file)
    found: Values = {}
    for name, field in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        value = field.contents()
        if field.types[0] == GGUFValueType.ARRAY and not isinstance(value, list):
            value = [value]  # the reader makes a single value of an array of one
        found[name] = value
    return found


def load_model(file: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, bool]:
    """The model in a file, and whether it was made of the file alone; else it has our `config`.

    Raises ModelError where the file lacks tensors.
    """
    own = any(tensor.name == "output.weight" for tensor in GGUFReader(file).tensors)
    config = _with(config, tie_word_embeddings=not own)  # an adapter may have made two tensors of one
    facts = Facts(config.to_dict())
    family = FAMILIES[config.model_type]
    if family.arch == "gptneox":
        return _by_hand(file, family, config, dtype), False
    whole = alone(family, facts)
    if config.model_type == "mistral":  # to a file both are the same
        config = LlamaConfig(**{**config.to_dict(), "model_type": "llama"})
    settings = {} if whole else {"config": config}
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=dtype, local_files_only=True, trust_remote_code=False, **settings
    )
    found.eval()  # type: ignore[no-untyped-call]
    return found, whole


def _by_hand(file: Path, family: Family, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A model of an architecture that transformers does not read from such files."""
    made = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)  # type: ignore[no-untyped-call]
    model: PreTrainedModel = made
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    arch = next(each for each, name in MODEL_ARCH_NAMES.items() if name == family.arch)
    names = get_tensor_name_map(MODEL_ARCH(arch), config.num_hidden_layers)
    state = {}
    for parameter, weight in model.named_parameters():
        tensor = stored.get(str(names.get_name(parameter, try_suffixes=(".weight", ".bias"))))
        if tensor is None:
            raise ModelError(f"The file lacks the tensor of {parameter}")
        found = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        turned = _by_head(found, config.num_attention_heads) if ".query_key_value." in parameter else found
        state[parameter] = turned.reshape(weight.shape).to(dtype)
    model.load_state_dict(state, strict=False)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _with(config: PretrainedConfig, **changes: object) -> PretrainedConfig:
    found = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Queries, keys and values as GPT-NeoX has them, (head, 3, head_dim)."""
    return weight.reshape(3, heads, -1, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)
