"""A step in a process of its own, since a file that is wrong may end the process that opens it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.startup import no_telemetry, quiet_libraries
from llm_installer.core.text import shortened

_PACKAGE = Path(__file__).resolve().parents[2]


def ask(module: str, arguments: Sequence[str], what: str) -> dict[str, object]:
    """What another process finds out: `python -m module arguments`, which ends with tell().

    Raises ModelError where it ends in another way; `what` is how the sentence begins.
    """
    paths = os.pathsep.join(filter(None, (str(_PACKAGE), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, encoding="utf-8", errors="replace", env=environment, check=False,
    )  # fmt: skip
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        why = shortened(done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}", 200)
        raise ModelError(f"{what} ({why}), and was not kept")
    found: dict[str, object] = json.loads(last)
    if "error" in found:
        raise ModelError(f"{what} ({found['error']}), and was not kept")
    return found


def tell(find: Callable[[], dict[str, object]]) -> None:
    """Print what is found, or what is wrong, as one line of JSON."""
    no_telemetry()
    try:
        with quiet_libraries():
            found = find()
    except InstallerError as error:
        found = {"error": str(error)}
    print(json.dumps(found), flush=True)
