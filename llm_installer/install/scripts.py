"""Write the scripts (train.sh, start.sh, ...), the runs folder and the TensorBoard link of a model directory."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.files import switch_link, unwritable, write_text
from llm_installer.core.hints import from_anywhere
from llm_installer.core.paths import ModelDir

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Script:
    """A file in a model directory, rendered from a template."""

    file: str
    template: str
    mode: int
    command: str = ""
    about: str = ""


SCRIPTS = (
    Script("train.sh", "launch.sh", 0o755, "train", "Fine-tunes the model in this folder."),
    Script("start.sh", "launch.sh", 0o755, "start", "Chats with the model in this folder."),
    Script("train_lora.py", "train_lora.py", 0o644),
)


def templates_dir() -> Path:
    """The templates: inside the package when it was installed from a wheel, beside it in a checkout."""
    return next(p for p in (_PACKAGE / "templates", _PACKAGE.parent / "templates") if (p / "launch.sh").is_file())


def write_scripts(model_dir: ModelDir, python: str = sys.executable) -> list[Path]:
    """Write the scripts, which will run `python`; runs and weights are not touched. Returns what was written.

    Raises DiskError.
    """
    templates, root = templates_dir(), model_dir.root
    for script in SCRIPTS:
        values = {"FILE": script.file, "COMMAND": script.command, "ABOUT": script.about}
        values |= {"PYTHON": shlex.quote(python), "PROGRAM": shlex.quote(from_anywhere())}
        text = (templates / script.template).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        write_text(root / script.file, text, script.mode)
    # Resolved, because a link is written relative to where its folder really lies.
    real = ModelDir(root.resolve())
    try:
        real.runs.mkdir(exist_ok=True)
        switch_link(real.tensorboard_link, real.runs)
    except OSError as error:
        raise unwritable(root, error) from None
    return [root / script.file for script in SCRIPTS]
