"""The wheel for workers: the code that runs, all of it, under a name that says which code it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from llm_installer.core.version import __version__
from llm_installer.install.tiny import DATA_FILE
from llm_installer.studio.colab.wheel import Wheel, build_wheel, code_files, code_version, differs
from tests.tiers import minutes

ROOT = Path(__file__).resolve().parents[2]
BUILD = (
    "import sys; from pathlib import Path; from llm_installer.studio.colab.wheel import build_wheel, code_version\n"
    "wheel = build_wheel(Path(sys.argv[1])); print(wheel.path, wheel.sha256, code_version())"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def built_by(code: Path, to: Path) -> tuple[Path, str, str]:
    """(wheel, its hash, the version that the code gives itself) where the program lies in `code`."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", BUILD, str(to)]
    done = subprocess.run(
        command, env={**clean, "PYTHONPATH": str(code)}, cwd=to.parent, capture_output=True, text=True, check=True
    )
    path, digest, version = done.stdout.split()
    return Path(path), digest, version


def test_the_name_says_which_code_it_is_and_equal_code_makes_equal_wheels(wheel: Wheel, tmp_path: Path) -> None:
    assert re.fullmatch(rf"{re.escape(__version__)}\+h[0-9a-f]{{12}}", wheel.version)
    assert wheel.path.name == f"llm_installer-{wheel.version}-py3-none-any.whl"
    assert wheel.sha256 == hashlib.sha256(wheel.path.read_bytes()).hexdigest()
    assert code_version() == wheel.version
    (tmp_path / "llm_installer-0.0.9+h0-py3-none-any.whl").touch()
    again = build_wheel(tmp_path)
    assert again.sha256 == wheel.sha256
    assert [file.name for file in tmp_path.iterdir()] == [again.path.name], "an old wheel is not offered any more"


def test_handlers_templates_pages_and_sources_of_kernels_are_in_it(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        metadata = archive.read(f"llm_installer-{wheel.version}.dist-info/METADATA").decode()
    assert f"\nVersion: {wheel.version}\n" in metadata and "Requires-Dist: peft" in metadata
    for part in (
        "handlers/llama.py", "templates/launch.sh", "install/tiny/model/model.safetensors", "server/page/index.html",
        "training/fast/cpu/native/attention.c", "training/general.txt", "cli/help/data.md",
    ):  # fmt: skip
        assert f"llm_installer/{part}" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_setup_py_installs_the_same_files(tmp_path: Path) -> None:
    """What a plain `pip install` brings is what workers get: nothing of the package is forgotten in setup.py."""
    ask = (
        "import json, sys; from distutils.core import run_setup\n"
        "build = run_setup('setup.py', ['-q'], 'init').get_command_obj('build_py')\n"
        f"build.build_lib = {str(tmp_path)!r}; build.ensure_finalized(); print(json.dumps(build.get_outputs(False)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import setuptools\n{ask}"], cwd=ROOT, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    installed = {Path(file).relative_to(tmp_path).as_posix() for file in json.loads(done.stdout)}
    assert {name for name in installed if not name.endswith(".pyc")} == set(code_files())


def test_changed_code_changes_the_name_and_an_installed_wheel_is_the_same_code(wheel: Wheel, tmp_path: Path) -> None:
    """A checkout with changes that nobody committed, and a wheel that is unpacked where pip would put it."""
    checkout = tmp_path / "checkout"
    for name in ("llm_installer", "handlers", "templates"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    with (checkout / "handlers" / "llama.py").open("a", encoding="utf-8") as file:
        file.write("# changed, and not committed\n")
    (checkout / "llm_installer" / "core" / "brand_new.py").write_text("NEW = 1\n", encoding="utf-8")
    dirty, _, version = built_by(checkout, tmp_path / "dirty")
    assert version != wheel.version and version in dirty.name
    with zipfile.ZipFile(dirty) as archive:
        assert archive.read("llm_installer/handlers/llama.py").endswith(b"not committed\n")
        assert "llm_installer/core/brand_new.py" in archive.namelist()

    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(tmp_path / "site")
    path, digest, version = built_by(tmp_path / "site", tmp_path / "again")
    assert (path.name, digest, version) == (wheel.path.name, wheel.sha256, wheel.version)


def test_a_worker_with_other_code_is_told_both_versions() -> None:
    assert differs("0.1.0+h1", "0.1.0+h1") == ""
    said = differs("0.1.0+h1", "0.1.0+h2")
    assert "0.1.0+h1" in said and "0.1.0+h2" in said


@pytest.mark.slow
@minutes
def test_what_quickstart_does_runs_from_an_empty_environment(wheel: Wheel, tmp_path: Path) -> None:
    """Install, train by the script of the model, ask. The libraries are those of this environment; of the program there
    is nothing but the wheel. `quickstart` itself does the same for longer."""
    venv.EnvBuilder(with_pip=False).create(tmp_path / "venv")
    library = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (library / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    python = tmp_path / "venv" / "bin" / "python"
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LLM_INSTALLER_COMMAND")}
    clean |= {"LLM_HOME": str(tmp_path / "home"), "PIP_NO_INDEX": "1"}
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel.path)]
    subprocess.run(pip, env=clean, check=True)
    where = "import llm_installer; print(llm_installer.__file__)"
    assert str(tmp_path) in subprocess.run([python, "-I", "-c", where], capture_output=True, text=True).stdout
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(DATA_FILE.read_bytes().splitlines(keepends=True)[:24]))
    model = tmp_path / "home" / "models" / "tiny"
    quick = ("--epochs", "1", "--skip-test", "--no-tensorboard")
    for command in (
        [python.with_name("llm-installer"), "install", "tiny"],
        [model / "train.sh", "--data", rows, *quick],
        [model / "start.sh", "--prompt", "Who looks after the lighthouse?"],
    ):
        done = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True)
        assert not done.returncode and done.stdout.strip(), done.stdout + done.stderr
    assert (model / "lora" / "adapter_model.safetensors").is_file()
