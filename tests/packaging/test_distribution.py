"""What is built from a checkout: the wheel and the sdist hold everything that the package opens."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
ROOMS = {
    "llm_installer": "llm_installer",
    "handlers": "llm_installer/handlers",
    "templates": "llm_installer/templates",
}
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(kind: str, source: Path, out: Path) -> Path:
    """Build in `source`, which is written to."""
    command = [sys.executable, "-c", BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    return Path(shutil.copytree(REPO, tmp_path_factory.mktemp("packaging") / "source", ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


def test_the_wheel_holds_all_modules_and_data(source, wheel):
    expected = {
        f"{installed}/{file.relative_to(source / folder).as_posix()}"
        for folder, installed in ROOMS.items()
        for file in (source / folder).rglob("*")
        if file.is_file()
    }
    assert expected <= members(wheel)
    assert {
        "llm_installer/py.typed",
        "llm_installer/handlers/llama.py",
        "llm_installer/templates/launch.sh",
    } <= expected
    assert "llm_installer/install/tiny/model/model.safetensors" in expected


def test_the_wheel_holds_nothing_else(wheel):
    info = next(name.partition("/")[0] for name in members(wheel) if name.endswith(".dist-info/RECORD"))
    for name in members(wheel):
        assert name.split("/")[0] in ("llm_installer", info)
        assert not name.endswith(".pyc")
        assert "pretrain" not in name, "what made the built-in model is not part of the package"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{info}/top_level.txt") == b"llm_installer\n"
        assert b"llm-installer = llm_installer.__main__:main" in archive.read(f"{info}/entry_points.txt")
        assert f"{info}/licenses/LICENSE" in archive.namelist()


@pytest.mark.slow
def test_a_wheel_of_the_sdist_is_the_wheel_of_the_checkout(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert {"llm-installer", "constraints.txt", "handlers/llama.py", "templates/launch.sh", "LICENSE"} <= names
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert members(build("wheel", unpacked, tmp_path)) == members(wheel)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["wheel", "sdist", "editable"])
def test_an_installation_finds_its_handlers_templates_and_model(form, source, tmp_path, request):
    """From another folder, and without the checkout's own folder on the path."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    # The libraries of this environment, but none of its .pth files: those may know a checkout.
    libraries = next(path for path in map(Path, sys.path) if (path / "click").is_dir())
    packages = next((tmp_path / "venv" / "lib").glob("python3.*")) / "site-packages"
    (packages / "borrowed.pth").write_text(f"{libraries}\n", encoding="utf-8")
    what = ["-e", str(source)] if form == "editable" else [str(request.getfixturevalue(form))]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", "--no-build-isolation", *what], check=True, cwd=tmp_path)
    code = (
        "from pathlib import Path\n"
        "import llm_installer\n"
        "from llm_installer.install.scripts import templates_dir\n"
        "from llm_installer.planning.registry import all_handlers\n"
        "from llm_installer.install.tiny import MODEL_DIR\n"
        "print(Path(llm_installer.__file__).parent)\n"
        "assert {'llama', 'gpt2'} <= {handler.name for handler in all_handlers()}\n"
        "assert (templates_dir() / 'launch.sh').is_file() and (templates_dir() / 'train_lora.py').is_file()\n"
        "assert (Path(MODEL_DIR) / 'config.json').is_file(), MODEL_DIR\n"
    )
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(source if form == "editable" else tmp_path / "venv")
    command = tmp_path / "venv" / "bin" / "llm-installer"
    asked = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert wheel_version(request.getfixturevalue("wheel")) in asked.stdout


def wheel_version(wheel: Path) -> str:
    return wheel.name.split("-")[1]
