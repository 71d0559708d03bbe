"""./lora/logs: the curves of the current run beside its adapter, where guides look for them with TensorBoard."""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.files import switch_link
from llm_installer.core.paths import ModelDir, Run


def curves(run: Run) -> Path:
    """The link in a run's adapter to its logs; no part of the adapter."""
    return run.adapter / "logs"


def make_current(folder: ModelDir, run: Run) -> None:
    """Switch every promised link to `run`, and let only its adapter lead to its curves."""
    before = folder.lora.resolve() if folder.lora.is_symlink() else None
    if run.logs.is_dir():
        switch_link(curves(run), run.logs)
    folder.switch_to(run)
    if before and before.name == run.adapter.name and before != run.adapter.resolve():
        curves(Run(before.parent)).unlink(missing_ok=True)
