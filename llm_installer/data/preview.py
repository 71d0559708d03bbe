"""The story of --show: the first rows of the training data, token by token, as the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.examples import Example
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.prepare import read
from llm_installer.planning.method import refuse_contradictions
from llm_installer.planning.options import Options


@dataclass(frozen=True)
class Preview:
    """Training examples, and what encodes them."""

    examples: Sequence[Example]
    encoder: Encoder


def preview(options: Options, base: Path) -> Preview:
    """The first `options.show` training examples; relative paths are below `base`. Raises ModelError and DataError."""
    refuse_contradictions(options)
    folder = ModelDir.find(options.model_path)
    info = read_model_info(folder.weights, folder.root.name)
    given = read(options, base)
    return Preview(given.train[: options.show or 0], load_encoder(info, options.train_on_prompt))
