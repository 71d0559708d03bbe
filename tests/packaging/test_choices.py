"""What the launcher chooses: the Python, and where PyTorch comes from."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DRIVER = Path("/proc/driver/nvidia/version")
GPU = "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'"
BROKEN_GPU = "echo 'NVIDIA-SMI has failed'; exit 9"
PYTHON = os.path.realpath(sys.executable)


def torch_call(checkout) -> list[str]:
    """How torch was asked for, which is before everything that needs it."""
    calls = checkout.take_calls()
    where = next(place for place, call in enumerate(calls) if any(word.startswith("torch==") for word in call))
    assert calls[where + 1][-1] == "."
    assert calls[where][:3] == ["pip", "install", "--no-deps"]
    return calls[where][3:]


@pytest.mark.parametrize(
    ("nvidia_smi", "cpu_builds", "expected", "words"),
    [
        (GPU, "configured", ["torch==9.9.9,!=9.9.9+cpu"], "for NVIDIA GPUs"),
        (None, "configured", ["torch==9.9.9+cpu"], "for CPUs"),
        (BROKEN_GPU, "configured", ["torch==9.9.9+cpu"], "for CPUs"),
        (None, CPU_INDEX, ["torch==9.9.9+cpu", "--index-url", CPU_INDEX], "for CPUs"),
        (None, "nowhere", ["torch==9.9.9"], "with CUDA"),
    ],
    ids=["GPU", "no GPU", "no driver", "no GPU, PyTorch's index", "no GPU, index out of reach"],
)
def test_the_gpu_decides_which_torch(checkout, nvidia_smi, cpu_builds, expected, words):
    if DRIVER.exists() and nvidia_smi != GPU:
        pytest.skip("an NVIDIA driver is loaded here")
    if nvidia_smi:
        checkout.tool("nvidia-smi", nvidia_smi)
    done = checkout.start(STUB_CPU=cpu_builds)
    assert done.returncode == 0
    assert torch_call(checkout) == expected
    assert f"- PyTorch 9.9.9, {words}" in done.stderr


def test_only_linux_has_builds_for_cpus_apart(checkout):
    if DRIVER.exists():
        pytest.skip("an NVIDIA driver is loaded here")
    checkout.tool("uname", "echo Darwin")
    checkout.start(STUB_CPU="configured")
    assert torch_call(checkout) == ["torch==9.9.9"]


@pytest.mark.parametrize("nvidia_smi", [None, GPU], ids=["no GPU", "GPU"])
def test_a_given_index_wins(checkout, tmp_path, nvidia_smi):
    if nvidia_smi:
        checkout.tool("nvidia-smi", nvidia_smi)
    url = "https://example.invalid/whl/rocm"
    checkout.start(LLM_INSTALLER_TORCH_INDEX=url, STUB_CPU="configured")
    assert torch_call(checkout) == ["torch==9.9.9", "--index-url", url]


def test_a_given_folder_of_wheels_wins(checkout, tmp_path):
    wheels = tmp_path / "my wheels"
    wheels.mkdir()
    checkout.start(LLM_INSTALLER_TORCH_INDEX=str(wheels), STUB_CPU="configured")
    assert torch_call(checkout) == ["torch==9.9.9", "--no-index", "--find-links", str(wheels)]


def pretending(version: tuple[int, int, int]) -> str:
    """A Python that takes itself for another version."""
    code = f"import sys; sys.version_info = {version!r}; exec(sys.argv[1])"
    return f'exec "{PYTHON}" -c "{code}" "$4"'


@pytest.mark.parametrize(
    ("python3", "sentence"),
    [
        (pretending((3, 8, 1)), "Python 3.8 was found, but 3.10 to 3.14 is needed"),
        (pretending((3, 15, 0)), "Python 3.15 was found, but 3.10 to 3.14 is needed"),
        ("echo 'shim: python3: command not found' >&2; exit 127", "no Python was found"),
        (None, "no Python was found"),
    ],
    ids=["old", "new", "a shim to nowhere", "none"],
)
def test_a_python_that_will_not_do_is_named(checkout, python3, sentence):
    (checkout.bin / "python3").unlink()
    if python3:
        checkout.tool("python3", python3)
    refused = checkout.start("list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"llm-installer: {sentence}")
    assert len(refused.stderr.splitlines()) == 1
    assert "LLM_INSTALLER_PYTHON" in refused.stderr
    assert not (checkout.root / ".venv").exists()


def test_a_python_without_venv_is_named(checkout, tmp_path):
    (tmp_path / "no venv").mkdir()
    (tmp_path / "no venv" / "ensurepip.py").write_text("raise ImportError('left out')\n", encoding="utf-8")
    refused = checkout.start(PYTHONPATH=str(tmp_path / "no venv"))
    assert refused.returncode == 1
    assert f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in refused.stderr


def test_the_next_python_is_taken_when_the_first_will_not_do(checkout):
    (checkout.bin / "python3.12").symlink_to(PYTHON)
    checkout.tool("python3", pretending((3, 8, 1)))
    assert checkout.start().returncode == 0


def test_a_given_python_is_the_only_one_tried(checkout, tmp_path):
    (tmp_path / "my python").symlink_to(PYTHON)
    refused = checkout.start(LLM_INSTALLER_PYTHON="/nowhere/python3")
    assert refused.returncode == 1
    assert "LLM_INSTALLER_PYTHON is /nowhere/python3, which does not run" in refused.stderr
    checkout.tool("python3", "exit 1")
    given = checkout.start("list", LLM_INSTALLER_PYTHON=str(tmp_path / "my python"))
    assert (given.returncode, json.loads(given.stdout)) == (0, ["list"])
