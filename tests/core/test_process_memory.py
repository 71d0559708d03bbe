"""What a process gives back of files that are mapped into it."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from llm_installer.core.process_memory import give_back, mapped_files
from llm_installer.training.fast.layer_plan import stacked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
MIB = 1 << 20


def held_of(file: Path) -> int:
    """Bytes of the file that are in this process's memory."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(str(file))]
    rss = (next(line for line in lines[i:] if line.startswith("Rss:")) for i in starts)
    return sum(int(line.split()[1]) * 1024 for line in rss)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "model.safetensors"
    save_file({name: torch.full((1024, 1024), float(i)) for i, name in enumerate("qkvo", 1)}, made)
    return made


def test_weights_that_are_stacked_are_in_memory_once(file: Path) -> None:
    with safe_open(file, "pt") as weights:
        parts = [weights.get_tensor(name) for name in "qkvo"]
    expected = torch.cat(parts)
    assert held_of(file) >= 16 * MIB
    together = stacked([torch.nn.Parameter(part, requires_grad=False) for part in parts[:3]], mapped_files())
    assert torch.equal(together, expected[: 3 * 1024])
    assert held_of(file) <= 4 * MIB + 128 * 1024, "of the three only pages that they share with others are left"
    assert torch.equal(parts[0], expected[:1024]), "who still looks at the file finds what it holds"
    assert torch.equal(parts[3], expected[3 * 1024 :])


def test_memory_that_no_file_stands_behind_is_kept(file: Path) -> None:
    own = torch.ones(1024, 1024)
    with safe_open(file, "pt") as weights:
        read = weights.get_tensor("k")
    assert read.sum() == 2 * read.numel()
    before = held_of(file)
    for tensor in (own, read):
        give_back(tensor.data_ptr(), tensor.nbytes, mapped_files())
    assert held_of(file) <= before - 3 * MIB
    assert own.sum() == own.numel()
    assert read.sum() == 2 * read.numel(), "it is read again"
