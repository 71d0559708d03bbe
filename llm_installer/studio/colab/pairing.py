"""The cells of the notebook that is paired with a job: a code that a person types becomes the token of that one job.

The token is in memory and in a file of this machine that only its user can read; never in the notebook, in what it
prints, or in a list of processes. Standard library only.
"""

from __future__ import annotations

import getpass
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from llm_installer.studio.colab.child import StepFailed, run
from llm_installer.studio.colab.environment import python_of

CODE, TOKEN = "LLM_INSTALLER_PAIRING", "LLM_STUDIO_TOKEN"
"""Environment variables: of the code, for whoever runs the notebook by program; and of the token, for the worker."""


def pair(server: str, version: str, place: Path) -> str:
    """Ask for the code, and keep the token of its job in `place`. Returns the id of the job.

    A machine that is paired already asks nothing. Raises StepFailed.
    """
    file = place / "token.json"
    if file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["job"])
    code = os.environ.pop(CODE, "") or getpass.getpass("Pairing code: ")
    found = _asked(server, code)
    if found["version"] != version:
        raise StepFailed(
            f"The server runs LLM Installer {found['version']} now, and this is {version}; run all cells again."
        )
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump({"job": found["job"], "token": found["token"]}, out)
    return found["job"]


def work(server: str, place: Path) -> None:
    """Do the job that this machine is paired with. Raises StepFailed."""
    try:
        found = json.loads((place / "token.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StepFailed("This machine is not paired with a job yet; run the cell above first.") from None
    secret = {TOKEN: found["token"], "LLM_HOME": str(place / "home"), "LLM_INSTALLER_COMMAND": "llm-installer"}
    run(
        [str(python_of(place)), "-I", "-m", "llm_installer", "worker", "--server", server, "--job", found["job"]],
        secret,
    )


def _asked(server: str, code: str) -> dict[str, str]:
    body = json.dumps({"code": code.strip()}).encode()
    request = urllib.request.Request(f"{server}/api/workers/pair", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, str] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        try:
            said = str(json.loads(error.read())["error"]["message"])
        except (ValueError, KeyError, TypeError):
            said = f"The server answered with status {error.code}"
        raise StepFailed(f"{said}.") from None
    except OSError as error:
        raise StepFailed(f"The server cannot be reached ({error}).") from None
