"""Whether the files of a model can be loaded here, found out before a weight is copied or read."""

from __future__ import annotations

from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.tokenizer import has_tokenizer
from llm_installer.models.base import decoder_prefix
from llm_installer.models.from_files import check_weights, without_weights
from llm_installer.models.targets import choose_targets
from llm_installer.planning.chooser import choose_precision
from llm_installer.planning.memory import BYTES, weight_bytes
from llm_installer.planning.method import base_quantisation
from llm_installer.planning.registry import find_handler


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


def base_bytes(folder: ModelDir, quantised: str = "") -> int:
    """Bytes of the weights of a base in memory, held as inference holds it. No weight is read."""
    info = read_model_info(folder.weights, folder.root.name)
    precision = choose_precision(info, find_handler(info), probe_hardware())[0]
    return weight_bytes(info, BYTES[precision], base_quantisation(quantised, info))
