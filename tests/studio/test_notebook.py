"""The notebook of a job: what is in it, and what its cells do."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.errors import ModelError
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.paths import ModelDir
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.registry import all_handlers
from llm_installer.studio.colab import kernel
from llm_installer.studio.colab.child import PARENT, StepFailed, run
from llm_installer.studio.colab.environment import install_command
from llm_installer.studio.colab.notebook import LARGEST, NotebookJob, elsewhere, fitted, notebook, plain_name
from llm_installer.studio.colab.wheel import Wheel, build_wheel
from tests.commands import command
from tests.planning.test_plan import INFO

WHEEL_BYTES = b"a wheel, for all that a notebook knows"
PATIENCE = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Something in the place of a wheel, for cells that are only looked at."""
    path = tmp_path_factory.mktemp("wheel") / "llm_installer-0.1.0+h1-py3-none-any.whl"
    path.write_bytes(WHEEL_BYTES)
    return Wheel(path, "0.1.0+h1", hashlib.sha256(WHEEL_BYTES).hexdigest())


def job(**given: Any) -> NotebookJob:
    usual = {
        "id": "j1",
        "model": "tiny",
        "revision": "",
        "words": ("--epochs", "2"),
        "data_name": "d.csv",
        "data": b"a",
    }
    return NotebookJob(**{**usual, **given})


def cells(content: bytes) -> dict[str, str]:
    return {cell["id"]: "".join(cell["source"]) for cell in json.loads(content)["cells"]}


def values(content: bytes) -> dict[str, object]:
    space: dict[str, Any] = {}
    exec(cells(content)["values"], space)
    return dict(space["VALUES"])


def test_equal_jobs_make_equal_files_in_the_form_that_colab_reads(small: Wheel) -> None:
    content = notebook(job(), small)
    assert content == notebook(job(), small)
    made = nbformat.reads(content.decode(), as_version=4)
    nbformat.validate(made)
    assert [cell.id for cell in made.cells] == ["about", "values", "program", "install", "data", "train", "result"]
    assert made.metadata.accelerator == "GPU" and made.metadata.colab.gpuType == "T4"
    assert made.metadata.kernelspec.name == "python3"
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["values"]
    for cell in code:
        compile(cell.source, cell.id, "exec")
    assert base64.b64encode(WHEEL_BYTES).decode() in cells(content)["program"]


@given(
    model=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=4),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_no_value_becomes_code(small: Wheel, model: str, words: list[str], name: str) -> None:
    """Quotes, braces, line ends and other scripts arrive as they are, and in no other cell."""
    content = notebook(job(model=model, words=tuple(words), data_name=name), small)
    found = values(content)
    assert (found["model"], found["words"]) == (model, words)
    usual = cells(notebook(job(), small))
    assert {name: text for name, text in cells(content).items() if name != "values"} == {
        name: text for name, text in usual.items() if name != "values"
    }


@given(st.text(max_size=100))
def test_the_name_of_the_data_is_a_plain_one(name: str) -> None:
    found = plain_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", found), found
    assert plain_name(found) == found


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("my data.csv", "my_data.csv"),
        ('../../x"\r\nSet-Cookie', "x_Set-Cookie"),
        ("C:\\a\\b.jsonl", "b.jsonl"),
        ("", "data"),
        (".csv", "csv"),
        ("donn\u00e9es.parquet", "donn_es.parquet"),
    ],
)
def test_names_of_data(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_large_data_are_not_carried_and_a_wheel_with_an_address_is_not_either(small: Wheel) -> None:
    content = notebook(job(data=bytes(LARGEST + 1), wheel_url='https://a.test/"x"'), small)
    assert len(content) < 8000
    assert "too large" in cells(content)["about"]
    assert 'urlopen("https://a.test/\\"x\\"", timeout=60)' in cells(content)["program"]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"source": "hub", "id": "a/b", "revision": "abc"}, ("a/b", "abc")),
        ({"source": "built-in", "id": "tiny", "revision": ""}, ("tiny", "")),
        ({"source": "folder", "id": "/somewhere"}, None),
        ({}, None),
    ],
)
def test_a_model_of_a_folder_cannot_be_had_elsewhere(
    record: dict[str, str], found: tuple[str, str] | None, tmp_path: Path
) -> None:
    (tmp_path / "model_info.json").write_text(json.dumps(record))
    if found:
        assert elsewhere(ModelDir(tmp_path)) == found
        return
    with pytest.raises(ModelError, match="another machine cannot install it"):
        elsewhere(ModelDir(tmp_path))


def test_pytorch_is_never_fetched_where_the_notebook_has_it(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    with_pip = install_command(tmp_path, wheel, "2.11.0+cu128", None)
    rules = Path(with_pip[with_pip.index("-c") + 1])
    assert rules.read_text() == "torch==2.11.0+cu128\n" and with_pip[-1] == str(wheel)
    with_uv = install_command(tmp_path, wheel, "2.11.0+cu128", "/usr/bin/uv")
    assert with_uv[:3] == ["/usr/bin/uv", "pip", "install"] and with_uv[-3:-1] == ["--override", str(rules)]
    assert rules.read_text() == "torch; python_version < '0'\n"
    install_command(tmp_path, wheel, "", None)
    assert rules.read_text() == "", "on a machine without it, it is installed as any other"


T4 = Hardware("cuda", "Tesla T4", 1, int(14.6 * GIB), 15 * GIB, False, 2)


SMALL = dataclasses.replace(
    INFO, parameters=1_240_000_000, layers=16, hidden_size=2048, intermediate_size=8192, weight_bytes=2_480_000_000
)
MIDDLE = dataclasses.replace(
    INFO, parameters=3_210_000_000, layers=28, hidden_size=3072, intermediate_size=8192, weight_bytes=6_420_000_000
)


@pytest.mark.parametrize(("info", "method"), [(SMALL, "lora"), (MIDDLE, "lora"), (INFO, "qlora")])
@pytest.mark.parametrize("handler", all_handlers(), ids=lambda handler: handler.name)
def test_a_t4_without_bfloat16_gets_a_plan_that_fits(handler: Handler, info: ModelInfo, method: str) -> None:
    """In 16 bits that it can multiply, but for families whose values float16 cannot hold, where the reason says so;
    a large base in 4 bits; without the packing that needs a newer GPU."""
    facts = DataFacts(rows=9000, validation_rows=1000, task="instruct", mean_length=200, longest=900)
    words = fitted(["--epochs", "2"], info)
    options = Options(data="x", epochs=2, method="qlora" if "--method=qlora" in words else None)
    plan = make_plan(options, info, handler, T4, facts, (1024, "because"))
    assert plan.method.name == method
    assert not plan.packing
    assert plan.predicted_peak_bytes < T4.free_bytes
    assert plan.precision == handler.dtype
    expected = "no native bfloat16" if handler.dtype == "float16" else "need the range of bfloat16"
    assert expected in plan.why["precision"]


def test_what_the_user_says_about_the_base_is_not_overruled() -> None:
    assert fitted(["--method=lora"], INFO) == ("--method=lora",)
    assert fitted(["--use-8bit"], INFO) == ("--use-8bit",)


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What Colab's own modules are asked for, in order; they are no part of this program and exist only there."""
    asked: list[str] = []
    google, module = ModuleType("google"), ModuleType("google.colab")
    runtime, output = ModuleType("google.colab.runtime"), ModuleType("google.colab.output")
    runtime.unassign = lambda: asked.append("unassign")  # type: ignore[attr-defined]
    output.eval_js = lambda text: asked.append(text)  # type: ignore[attr-defined]
    module.runtime, module.output = runtime, output  # type: ignore[attr-defined]
    for name, each in (("", module), (".runtime", runtime), (".output", output)):
        monkeypatch.setitem(sys.modules, f"google.colab{name}", each)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setattr(kernel, "GRACE", 0)
    yield asked


def test_the_whole_result_is_with_the_browser_before_the_machine_is_given_back(
    small: Wheel, colab: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: Any = values(notebook(job(), small))
    content = os.urandom(kernel._PIECE + 1000)
    kernel.result_file(found).write_bytes(content)
    kernel.finish(found)
    pieces = [re.findall(r'atob\("(.*?)"\)', text) for text in colab]
    assert b"".join(base64.b64decode(piece[0]) for piece in pieces if piece) == content
    assert colab[-1] == "unassign" and "j1.result.zip" in colab[-2] and colab.count("unassign") == 1
    colab.clear()
    kernel.finish({**found, "hand_over": False})
    assert colab == [], "whoever drives Colab by program fetches the file, and ends the session"


def test_the_machine_is_given_back_on_failure_too_but_not_when_a_person_stops_a_cell(
    small: Wheel, colab: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: Any = values(notebook(job(), small))
    with pytest.raises(StepFailed, match="no result yet"):
        kernel.finish(found)
    assert colab == ["unassign"]
    with pytest.raises(KeyboardInterrupt), kernel.given_back_on_failure():
        raise KeyboardInterrupt
    assert colab == ["unassign"]


def test_data_are_written_once_and_only_as_they_were(
    small: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: Any = values(notebook(job(data=b"rows"), small))
    kernel.folder(found).mkdir()
    with pytest.raises(StepFailed, match="not the file"):
        kernel.put_data(found, base64.b64encode(b"others").decode())
    kernel.put_data(found, base64.b64encode(b"rows").decode())
    kernel.put_data(found, "")  # it is there
    assert (kernel.folder(found) / "d.csv").read_bytes() == b"rows"
    (kernel.folder(found) / "d.csv").unlink()
    with pytest.raises(StepFailed, match=r"Put d\.csv into"):
        kernel.put_data(found, "")
    (tmp_path / "d.csv").write_bytes(b"rows")
    kernel.put_data(found, "")


def test_a_command_leaves_no_process_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines are printed, its exit code is told, and what it started ends with it."""
    started = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000']); print('child', p.pid); sys.exit(7)"
    with pytest.raises(StepFailed, match="exit code 7"):
        run([sys.executable, "-c", started.replace("Popen(['sleep', '1000'])", "Popen(['sleep', '1000'], stdout=-3)")])
    number = int(capsys.readouterr().out.split()[1])
    gone(number)


def gone(number: int) -> None:
    """Wait until a process is no more."""
    until = time.monotonic() + PATIENCE
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, f"process {number} goes on"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_training_hears_of_the_death_of_its_notebook() -> None:
    child = (
        "import sys; from llm_installer.studio.colab.child import end_with_notebook; end_with_notebook()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    parent = (
        "import os, subprocess, sys\n"
        f"os.environ['{PARENT}'] = str(os.getpid())\n"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    number = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    gone(number)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build_wheel(tmp_path_factory.mktemp("real"))


def execute(content: bytes, folder: Path, python: str = sys.executable) -> subprocess.Popen[str]:
    """A process of its own that runs a notebook with nbclient in `folder`, as `jupyter execute` does."""
    folder.mkdir(exist_ok=True)
    (folder / "job.ipynb").write_bytes(content)
    program = (
        "import nbformat, nbclient\n"
        "made = nbformat.read('job.ipynb', 4)\n"
        "try: nbclient.NotebookClient(made, timeout=600, kernel_name='python3').execute()\n"
        "finally: nbformat.write(made, 'done.ipynb')"
    )
    hidden = ("PYTHONWARNINGS", "PYTHONPATH", "LLM_HOME", "FORCE_COLOR")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    clean |= {"TMPDIR": str(folder)} | ({"PIP_NO_INDEX": "1"} if python == sys.executable else {})
    return subprocess.Popen(
        [python, "-c", program],
        cwd=folder,
        env=clean,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def printed(folder: Path) -> dict[str, str]:
    made = nbformat.read(folder / "done.ipynb", 4)
    return {cell.id: "".join(out.get("text", "") for out in cell.get("outputs", [])) for cell in made.cells}


def steps_saved(folder: Path) -> int:
    """The newest checkpoint of the only run."""
    found = folder.glob("llm-installer-j1/home/models/base/runs/*/checkpoints/checkpoint-*/manifest.json")
    return max((int(file.parent.name.split("-")[1]) for file in found), default=0)


@pytest.mark.slow
def test_the_notebook_trains_after_it_was_killed_half_way_it_goes_on(wheel: Wheel, tmp_path: Path) -> None:
    """From an environment without the program; kill -9 of whoever runs it, then the same notebook once more."""
    from llm_installer.install.tiny import DATA_FILE

    data = b"".join(DATA_FILE.read_bytes().splitlines(keepends=True)[:40])
    words = ("--epochs", "6", "--skip-test", "--no-tensorboard")
    content = notebook(job(words=words, data=data, data_name="my data.jsonl"), wheel)
    first = execute(content, tmp_path)
    until = time.monotonic() + 300
    while steps_saved(tmp_path) == 0:
        assert first.poll() is None and time.monotonic() < until, first.stderr and first.stderr.read()
        time.sleep(0.1)
    below = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    for each in below:
        gone(each.pid)
    at = steps_saved(tmp_path)

    second = execute(content, tmp_path)
    _, errors = second.communicate(timeout=500)
    assert not second.returncode, errors
    said = printed(tmp_path)
    resumed = re.search(r"Resuming run \S+ after\s+step (\d+)", said["train"])
    assert resumed and int(resumed[1]) >= at > 0
    assert "is installed" in said["install"] and "j1.result.zip" in said["result"]
    assert (tmp_path / "j1.result.zip").is_file()
    assert (tmp_path / "llm-installer-j1" / "home" / "history.jsonl").is_file(), "it knows better the next time"
    become_a_run(tmp_path / "j1.result.zip")


@pytest.mark.slow
def test_the_notebook_on_another_python(wheel: Wheel, tmp_path: Path) -> None:
    """As on Colab: Python 3.13, an older transformers that the kernel has imported, a PyTorch that stays."""
    from llm_installer.install.tiny import DATA_FILE

    python = os.environ.get("LLM_NOTEBOOK_PYTHON", "")
    if not python:
        pytest.skip("LLM_NOTEBOOK_PYTHON names a Python with torch, an older transformers, ipykernel and nbclient")
    ask = "import sys, torch, transformers; print(sys.version_info[:2], torch.__version__, transformers.__version__)"
    there = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    data = b"".join(DATA_FILE.read_bytes().splitlines(keepends=True)[:40])
    words = ("--epochs", "2", "--skip-test", "--no-tensorboard")
    content = notebook(job(words=words, data=data, data_name="my data.jsonl"), wheel)
    changed = json.loads(content)
    changed["cells"].insert(0, {**changed["cells"][1], "id": "user", "source": "import transformers", "metadata": {}})
    process = execute(json.dumps(changed).encode(), tmp_path, python)
    _, errors = process.communicate(timeout=900)
    assert not process.returncode, errors
    said = printed(tmp_path)
    assert "is installed" in said["install"] and "j1.result.zip" in said["result"]
    made = str(tmp_path / "llm-installer-j1" / "venv" / "bin" / "python")
    inside = subprocess.run([made, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert inside.rsplit(" ", 1)[0] == there.rsplit(" ", 1)[0], "the same Python and PyTorch"
    assert inside != there, "another transformers"
    after = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert after == there, "nothing of the notebook's own was replaced"
    become_a_run(tmp_path / "j1.result.zip")


def become_a_run(result: Path) -> None:
    """The result of the notebook is a run of the model here: listed, chosen, spoken to, and not to be resumed."""
    from llm_installer.install.installer import install
    from llm_installer.studio.colab.accept import Expected, take

    model = install("tiny", say=lambda text: None)
    run = take(result, Expected(model, "j1", "my data.jsonl"))
    listed = command("adapters", "tiny")
    assert run.id in listed.stdout and "my data.jsonl" in listed.stdout
    assert command("adapters", "tiny", "use", run.id).returncode == 0
    answer = command("start", "tiny", "--prompt", "Who looks after the lighthouse?")
    assert answer.returncode == 0 and answer.stdout.strip()
    again = command("train", "tiny", "--resume-from", f"runs/{run.id}")
    assert again.returncode == 1 and "trained on another machine" in " ".join(again.stderr.split())
