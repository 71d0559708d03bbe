"""Requests by the OpenAPI document of a server and against it, made by schemathesis, which knows nothing else of it."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.generated import ALL

EXAMPLES = "20" if ALL else "5"
"""Requests for each route, besides those that the document itself makes."""


def attacked(address: str, folder: Path, *more: str) -> str:
    """What schemathesis said; skips where it is not installed. `folder` is an empty one: it keeps what it found in a
    folder .schemathesis of wherever it is started, which must not be the checkout."""
    program = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("schemathesis is not installed")
    words = [program, "run", f"{address}/openapi.json", "--checks", "not_a_server_error", "--max-examples", EXAMPLES]
    words += ["--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color", "--suppress-health-check", "all"]
    words += ["--generation-database", "none", *more]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout
