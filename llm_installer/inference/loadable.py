"""Whether the files of a model can be loaded here, found out before a weight is copied or read."""

from __future__ import annotations

from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.tokenizer import has_tokenizer
from llm_installer.models.base import decoder_prefix
from llm_installer.models.from_files import check_weights, without_weights
from llm_installer.models.targets import choose_targets


def check_loadable(info: ModelInfo) -> None:
    """Raise ModelError where weights are missing, a field of a config has a wrong type, or the tokenizer is of no use.

    A model on a hub comes without its tokenizer as long as it is only looked at.
    """
    check_weights(info.path)
    if has_tokenizer(info.path):
        load_encoder(info)


def adapted_layers(info: ModelInfo, wanted: tuple[str, ...]) -> tuple[str, str]:
    """(how many layers `wanted` puts a LoRA on, which) in words, as the plan of a training says. No weight is read.

    Raises ModelError where nothing matches.
    """
    bare = without_weights(info.path)
    chosen = choose_targets(bare, wanted, decoder_prefix(bare))
    return chosen.value, chosen.why
