"""Types of weights that only llama.cpp's own code makes: a file in f16 is handed to it, in a process of its own.

python -m llm_installer.export.gguf.quantise SOURCE TARGET TYPE
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.hints import pip
from llm_installer.export.child import ask, tell

AS = {"q4_k_m": "f16"}
"""Such a type, and the one that is written for it first."""
_CODES = {"q4_k_m": 15}
"""llama.cpp's numbers for them (llama_ftype)."""
_PACKAGE = "llama_cpp"


def refuse_quantising(kind: str) -> None:
    """Raise InstallerError for a type that only llama.cpp makes, where that is not installed."""
    if kind in AS and importlib.util.find_spec(_PACKAGE) is None:
        raise InstallerError(
            f"The type {kind} is made by llama.cpp itself; install it with: {pip('llama-cpp-python')} (which compiles "
            "it), or take --type q8_0, which needs nothing"
        )


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write `source` again as `target`. Raises ModelError where llama.cpp does not do it."""
    ask("llm_installer.export.gguf.quantise", [str(source), str(target), kind], "llama.cpp could not quantise the file")


def run(source: str, target: str, kind: str) -> dict[str, object]:
    """Let llama.cpp do it. Raises ModelError where it says that it has not."""
    llama = import_module(_PACKAGE)
    settings = llama.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = _CODES[kind], 0
    code = llama.llama_model_quantize(source.encode(), target.encode(), settings)
    if code:
        raise ModelError(f"it ended with the code {code}")
    return {"code": code}


def main(arguments: Sequence[str]) -> None:
    """Quantise as the arguments say."""
    source, target, kind = arguments
    tell(lambda: run(source, target, kind))


if __name__ == "__main__":
    main(sys.argv[1:])
