"""What doctor finds, and what it says to do."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.install import Check, check_machine, install
from llm_installer.install import doctor as diagnose
from llm_installer.install.staging import staging_dir


@pytest.fixture(autouse=True)
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


def found() -> dict[str, Check]:
    return {check.name: check for check in check_machine()}


def test_everything_is_looked_at_and_every_problem_has_a_fix(home: Path) -> None:
    checks = check_machine()
    assert [c.name for c in checks] == [
        "Python", "torch", "memory", "disk", "LLM_HOME", "hub token", "transformers", "peft", "bitsandbytes", "models",
    ]  # fmt: skip
    assert all(c.fix for c in checks if c.ok is not True)
    assert all(c.detail and "\n" not in c.detail for c in checks)
    assert not home.exists()


def test_a_token_is_present_or_not_and_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found()["hub token"].ok is None
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    checks = check_machine()
    assert {c.name: c for c in checks}["hub token"].ok is True
    assert "secret" not in str(checks)


def test_a_home_that_cannot_be_written_to_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "file"))
    check = found()["LLM_HOME"]
    assert check.ok is False and "set LLM_HOME" in check.fix


@pytest.mark.parametrize(("free", "ok"), [(10**12, True), (5 * 10**9, None), (10**8, False)])
def test_disk(free: int, ok: bool | None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))
    assert found()["disk"].ok is ok


@pytest.mark.parametrize(("free", "ok"), [(8 << 30, True), (1 << 30, None)])
def test_memory(free: int, ok: bool | None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "memory_bytes", lambda: (free, 16 << 30))
    assert found()["memory"].ok is ok


@pytest.mark.parametrize(("oldest", "ok"), [((3, 10), True), ((9, 0), False)])
def test_python(oldest: tuple[int, int], ok: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "OLDEST_PYTHON", oldest)
    assert found()["Python"].ok is ok


@pytest.mark.parametrize(
    ("library", "declared", "ok", "says"),
    [
        ("transformers", "transformers>=1", True, ""),
        ("transformers", "transformers>=999", False, ">=999 is needed"),
        ("torch", "Torch<1", False, "<1 is needed"),
        ("peft", "peft==0.0.1", False, "==0.0.1 is needed"),
        ("bitsandbytes", "bitsandbytes>=999", None, ">=999 is needed"),
    ],
)
def test_versions_are_held_against_what_was_declared(
    library: str, declared: str, ok: bool | None, says: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnose, "requires", lambda _: ["click", declared])
    check = found()[library]
    assert check.ok is ok and says in check.detail


def test_a_library_that_is_broken_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text('raise ImportError("libcuda.so.1: cannot open\\nmore")')
    monkeypatch.syspath_prepend(tmp_path)
    rows = (diagnose.Library("broken_library"), diagnose.Library("no_such_library", needed=False))
    monkeypatch.setattr(diagnose, "LIBRARIES", rows)
    checks = found()
    assert checks["broken_library"].ok is False
    assert checks["broken_library"].detail == "cannot be imported (libcuda.so.1: cannot open)"
    assert checks["no_such_library"].ok is None


def test_what_a_library_remarks_while_imported_is_not_shown(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "noisy_library.py").write_text(
        "import logging, warnings\nlogging.getLogger('noisy').warning('noise')\nwarnings.warn('noise')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(diagnose, "LIBRARIES", (diagnose.Library("noisy_library"),))
    assert found()["noisy_library"].ok is True
    assert "noise" not in caplog.text


def test_a_gpu_that_torch_cannot_use_is_a_warning(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = found()["torch"]
    assert check.ok is (True if torch.cuda.is_available() else None)


def test_models_are_counted_and_the_broken_and_unfinished_are_named(
    home: Path, make_model: Callable[..., Path]
) -> None:
    source = make_model("my model")
    for name in ("good", "bad"):
        install(str(source), name=name, say=lambda _: None)
    install(str(make_model("gone")), link=True, say=lambda _: None)
    shutil.rmtree(source.with_name("gone"))
    (home / "models" / "bad" / "model" / "model.safetensors").unlink()
    staging_dir("org_name").root.mkdir()
    checks = found()
    assert checks["models"].detail == "1 model installed and complete"
    assert checks["bad"].ok is False
    assert checks["bad"].fix == f"llm-installer install '{source}' --name bad --force"
    assert checks["gone"].fix.endswith("--name gone --force --link")
    [left] = [c for c in check_machine() if c.ok is None and ".org_name.installing" in c.detail]
    assert "llm-installer remove org_name" in left.fix
