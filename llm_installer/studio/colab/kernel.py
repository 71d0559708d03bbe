"""What the cells of a notebook call: install, put the data there, train, hand the result over, give the machine back.

It is imported from the wheel itself, before anything is installed, by the Python of the notebook: this file and those
that it imports use the standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TypedDict

from llm_installer.studio.colab import pairing
from llm_installer.studio.colab.child import StepFailed, run
from llm_installer.studio.colab.environment import installed_version, make_environment, python_of, write

GRACE = 60
"""Seconds in which a person who watches can keep a machine on which something failed."""
_PIECE = 3 << 20
"""Bytes of the result that go to the browser at once."""
_DRIVE = Path("/content/drive/MyDrive")
"""Where Colab mounts the user's Google Drive."""


class Values(TypedDict):
    """The values of a notebook: one dictionary in its first cell."""

    job: str
    model: str
    """What `llm-installer install` takes."""
    revision: str
    words: list[str]
    """Options of `llm-installer train`."""
    data: str
    """Name of the data file."""
    data_sha256: str
    version: str
    wheel: str
    """Name of the wheel."""
    wheel_sha256: str
    hand_over: bool
    """Whether the result goes to the browser and the machine is given back; not where a program fetches it."""


class Paired(TypedDict):
    """The values of the notebook for all jobs of a server."""

    server: str
    job: str
    """`paired`: which one it is, the code says."""
    version: str


def folder(values: Values | Paired) -> Path:
    """Where everything of this job lies. What is there is used again when a cell is run once more."""
    return Path.cwd() / f"llm-installer-{values['job']}"


def result_file(values: Values) -> Path:
    """The one file that comes out."""
    return Path.cwd() / f"{values['job']}.result.zip"


def install(values: Values | Paired, wheel: Path) -> None:
    """Install the program beside the libraries of the notebook."""
    with given_back_on_failure():
        place = folder(values)
        place.mkdir(exist_ok=True)
        if installed_version(place) != values["version"]:
            make_environment(place, wheel)
        if (found := installed_version(place)) != values["version"]:
            raise StepFailed(f"The program is {found or 'not there'}, and not {values['version']}.")
        print(f"LLM Installer {found} is installed.")


def put_data(values: Values, content: str) -> None:
    """Write the data to a file; `content` is base64, or empty where the file has to be brought by hand."""
    with given_back_on_failure():
        file = folder(values) / values["data"]
        if not file.is_file() or _sha256(file.read_bytes()) != values["data_sha256"]:
            data = base64.b64decode(content) if content else _uploaded(values["data"])
            if _sha256(data) != values["data_sha256"]:
                raise StepFailed(f"This {values['data']} is not the file that the notebook was made for.")
            write(file, data)
        print(f"{file.name}: {file.stat().st_size:,} bytes.")


def train(values: Values) -> None:
    """Train in a process of its own; after an interruption from the newest checkpoint."""
    with given_back_on_failure():
        place, job = folder(values), folder(values) / "job.json"
        kept = str(_DRIVE / f"llm-installer-{values['job']}") if _DRIVE.is_dir() else ""
        write(job, json.dumps({**values, "result": str(result_file(values)), "kept": kept}).encode())
        home = {"LLM_HOME": str(place / "home"), "LLM_INSTALLER_COMMAND": "llm-installer"}
        run([str(python_of(place)), "-I", "-m", "llm_installer.studio.colab.alone", str(job)], home)


def finish(values: Values) -> None:
    """Hand the result over, and give the machine back."""
    with given_back_on_failure():
        file = result_file(values)
        if not file.is_file():
            raise StepFailed("There is no result yet; run the cells above first.")
        if values["hand_over"]:
            _hand_over(file)
        print(f"The result is {file.name}, {file.stat().st_size:,} bytes. Drop it on the page of this job.")
    if values["hand_over"]:
        give_back()


def pair(values: Paired) -> None:
    """Pair this machine with a job, once."""
    with given_back_on_failure():
        place = folder(values)
        place.mkdir(exist_ok=True)
        print(f"Paired with job {pairing.pair(values['server'], values['version'], place)}.")


def work(values: Paired) -> None:
    """Do the job that this machine is paired with, while its page follows; then give the machine back."""
    with given_back_on_failure():
        pairing.work(values["server"], folder(values))
    give_back()


@contextmanager
def given_back_on_failure() -> Iterator[None]:
    """Give the machine back where a step fails, for the cells after it are not run then. Who stops a cell is there."""
    keep = False
    try:
        yield
        keep = True
    except KeyboardInterrupt:
        keep = True
        raise
    finally:
        if not keep:
            give_back(GRACE)


def give_back(grace: float = 0) -> None:
    """End the session on Colab, so that it uses nothing up any more; elsewhere there is nothing to end."""
    try:
        runtime = import_module("google.colab.runtime")
    except ImportError:
        return
    if grace:
        print(f"This machine is given back in {grace:.0f} seconds; stop this cell to keep it.", flush=True)
        time.sleep(grace)
    print("This machine is given back now.", flush=True)
    runtime.unassign()


def _hand_over(file: Path) -> None:
    """Give a file to the browser. Each piece is waited for: the machine may be gone a moment after the last one.

    `files.download` of Colab would send it after all cells have run, and then there is no machine any more.
    """
    try:
        output = import_module("google.colab.output")
    except ImportError:
        return
    output.eval_js("globalThis.llmPieces = []; 0")
    with file.open("rb") as content:
        while piece := content.read(_PIECE):
            text = json.dumps(base64.b64encode(piece).decode())
            output.eval_js(f"llmPieces.push(Uint8Array.from(atob({text}), c => c.charCodeAt(0))); 0")
    output.eval_js(
        "const a = document.createElement('a');"
        "a.href = URL.createObjectURL(new Blob(llmPieces, {type: 'application/zip'}));"
        f"a.download = {json.dumps(file.name)}; document.body.appendChild(a); a.click();"
        "new Promise(done => setTimeout(() => done(0), 3000))"
    )


def _uploaded(name: str) -> bytes:
    """A file that is too large for the notebook: beside it, or chosen by the user."""
    if (here := Path.cwd() / name).is_file():
        return here.read_bytes()
    try:
        files = import_module("google.colab.files")
    except ImportError:
        raise StepFailed(f"Put {name} into {Path.cwd()}, and run this cell again.") from None
    print(f"Choose {name}:")
    chosen: dict[str, bytes] = files.upload()
    return next(iter(chosen.values()), b"")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
