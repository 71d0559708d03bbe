"""The notebook of one job: it carries its data and the program, and ends with one result file. Equal jobs, equal bytes.

Values get into cells as JSON and never as code, whatever quotes they hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.hints import pip
from llm_installer.core.json_file import read_object
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import GIB
from llm_installer.studio.colab.kernel import Values
from llm_installer.studio.colab.wheel import Wheel

LARGEST = 8 << 20
"""Bytes of data that a notebook carries; Colab opens no notebook above some 20 MB, and the program is one part."""
FREE_GPU = 9 * GIB
"""Weights of 16 bits that leave room for a training on a T4, which has 15 GiB, and no bfloat16."""
_NAME = 60
"""Characters of the name of a data file; its end says what it is."""
_LINE = 1 << 16
"""Characters of a line of base64."""


@dataclass(frozen=True)
class NotebookJob:
    """What is trained, and how."""

    id: str
    model: str
    """What `llm-installer install` takes on another machine."""
    revision: str
    words: tuple[str, ...]
    """Options of `llm-installer train`."""
    data_name: str
    data: bytes
    wheel_url: str = ""
    """Where the wheel can be fetched; empty where the notebook has to carry it."""
    hand_over: bool = True
    """Whether the result goes to the browser and the machine is given back at the end."""


def elsewhere(folder: ModelDir) -> tuple[str, str]:
    """(what to install, its revision) to have this base on another machine. Raises ModelError where that cannot be."""
    found = read_object(folder.info)
    name = str(found.get("id") or "")
    if found.get("source") == "built-in" or (found.get("source") == "hub" and name):
        return name, str(found.get("revision") or "")
    raise ModelError(
        f"{folder.root.name} was made from a folder of this machine, so another machine cannot install it; "
        "train it here, or install a model from a hub"
    )


def fitted(words: Sequence[str], info: ModelInfo) -> tuple[str, ...]:
    """Options with which this base fits into the free GPU of Colab: a large one in 4 bits, unless they say how."""
    chosen = any(word.partition("=")[0] in ("--method", "--use-4bit", "--use-8bit") for word in words)
    large = not chosen and not info.stored.words and 2 * info.parameters > FREE_GPU
    return (*words, "--method=qlora") if large else (*words,)


def notebook(job: NotebookJob, wheel: Wheel) -> bytes:
    """The notebook as a file. Raises InstallerError where nbformat is not installed."""
    carried = len(job.data) <= LARGEST
    return _written(
        _about(job, carried),
        {
            "values": _VALUES.format(values=_literal(_values(job, wheel))),
            "program": _program(job, wheel),
            "install": _INSTALL,
            "data": _DATA.format(content=_encoded(job.data if carried else b"")),
            "train": _TRAIN,
            "result": _RESULT,
        },
    )


def paired_notebook(server: str) -> bytes:
    """The one notebook for all jobs of a server that can be reached from elsewhere: it asks for a pairing code, so that
    it holds no secret and whoever has it has no right. Raises InstallerError as `notebook` does."""
    values = {"server": server.rstrip("/"), "job": "paired"}
    return _written(
        _PAIRED_ABOUT,
        {
            "values": _VALUES.format(values=_literal(values)),
            "program": _FETCHED,
            "install": _INSTALL,
            "pair": _PAIR,
            "train": _WORK,
        },
    )


def _written(about: str, cells: Mapping[str, str]) -> bytes:
    """A notebook of these cells, each with its id."""
    if find_spec("nbformat") is None:
        raise InstallerError(f"Notebooks need nbformat; install it with: {pip('nbformat')}")
    nbformat, v4 = import_module("nbformat"), import_module("nbformat.v4")  # neither has types
    tags = {"values": {"tags": ["parameters"]}}
    code = [v4.new_code_cell(text, id=name, metadata=tags.get(name, {})) for name, text in cells.items()]
    made = v4.new_notebook(cells=[v4.new_markdown_cell(about, id="about"), *code], metadata=_METADATA)
    nbformat.validate(made)
    text: str = nbformat.writes(made, version=4)
    return f"{text}\n".encode()


def _values(job: NotebookJob, wheel: Wheel) -> Values:
    return Values(
        job=job.id,
        model=job.model,
        revision=job.revision,
        words=[*job.words],
        data=plain_name(job.data_name),
        data_sha256=hashlib.sha256(job.data).hexdigest(),
        version=wheel.version,
        wheel=wheel.path.name,
        wheel_sha256=wheel.sha256,
        hand_over=job.hand_over,
    )


def plain_name(name: str) -> str:
    """The name of a file without what means anything to a shell, a path or a list of files."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("\\", "/").rpartition("/")[2])
    return plain[-_NAME:].lstrip("._-") or "data"


def _about(job: NotebookJob, carried: bool) -> str:
    lines = [
        "# LLM Installer: one training",
        "",
        "Choose a runtime with a GPU (Runtime, Change runtime type, T4 GPU), then Runtime, Run all.",
        "At the end your browser saves one file; drop it on the page of the job. The machine is then given back.",
        "",
        "Each cell can be run again. If the connection breaks, run all again: the training goes on where it was saved.",
        "Colab says that Google did not write this notebook. That is so: your own LLM Installer did.",
    ]
    if not carried:
        lines += ["", f"The data are too large for a notebook: you will be asked for {plain_name(job.data_name)}."]
    return "\n".join(lines)


def _literal(value: object) -> str:
    """Python that reads a value back: JSON in a string, all of it ASCII."""
    return f"json.loads({json.dumps(json.dumps(value, sort_keys=True))})"


def _encoded(data: bytes) -> str:
    """A literal of base64, in lines."""
    text = base64.b64encode(data).decode()
    lines: Sequence[str] = [text[start : start + _LINE] for start in range(0, len(text), _LINE)] or [""]
    return "(\n" + "".join(f'    "{line}"\n' for line in lines) + ")"


def _program(job: NotebookJob, wheel: Wheel) -> str:
    if job.wheel_url:
        get = f"content = urllib.request.urlopen({json.dumps(job.wheel_url)}, timeout=60).read()"
    else:
        get = f"content = base64.b64decode({_encoded(wheel.path.read_bytes())})"
    return _PROGRAM.format(get=get)


_METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": [], "toc_visible": False},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_VALUES = """import json

VALUES = {values}"""
_PROGRAM = """#@title The program {{ display-mode: "form" }}
import base64, hashlib, pathlib, sys, urllib.request

wheel = pathlib.Path(VALUES["wheel"]).resolve()
if not wheel.is_file() or hashlib.sha256(wheel.read_bytes()).hexdigest() != VALUES["wheel_sha256"]:
    {get}
    found = hashlib.sha256(content).hexdigest()
    assert found == VALUES["wheel_sha256"], "The program has changed; make a new notebook."
    wheel.write_bytes(content)
if str(wheel) not in sys.path:
    sys.path.insert(0, str(wheel))

from llm_installer.studio.colab import kernel"""
_INSTALL = """#@title Install
kernel.install(VALUES, wheel)"""
_DATA = """#@title The data {{ display-mode: "form" }}
kernel.put_data(VALUES, {content})"""
_TRAIN = """#@title Train
kernel.train(VALUES)"""
_RESULT = """#@title The result
kernel.finish(VALUES)"""
_PAIRED_ABOUT = """# LLM Installer: a training of your own server

Choose a runtime with a GPU (Runtime, Change runtime type, T4 GPU), then Runtime, Run all.
It asks for the code that the page of the job shows; a code can be used once, within ten minutes.
The page follows the training. At the end the result is there, and the machine is given back.

Colab says that Google did not write this notebook. That is so: your own LLM Installer did."""
_FETCHED = """#@title The program
import hashlib, pathlib, re, sys, urllib.request

with urllib.request.urlopen(VALUES["server"] + "/api/workers/wheel", timeout=60) as answer:
    content, name, expected = answer.read(), answer.headers["x-wheel"], answer.headers["x-sha256"]
assert re.fullmatch(r"llm_installer-[0-9.]+[+]h[0-9a-f]{12}-py3-none-any[.]whl", name), name
found = hashlib.sha256(content).hexdigest()
assert found == expected, "The program did not arrive as it was sent; run this cell again."
wheel = pathlib.Path(name).resolve()
wheel.write_bytes(content)
VALUES["version"] = name.split("-")[1]
if str(wheel) not in sys.path:
    sys.path.insert(0, str(wheel))

from llm_installer.studio.colab import kernel"""
_PAIR = """#@title Pair with the job
kernel.pair(VALUES)"""
_WORK = """#@title Train
kernel.work(VALUES)"""
