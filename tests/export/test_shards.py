"""Files written a few rows at a time: what the library reads of them, and how much is in memory meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from llm_installer.core.errors import DiskError
from llm_installer.core.manifest import sha256_of
from llm_installer.core.safetensors import read_header
from llm_installer.export import shards
from llm_installer.export.changes import Dora, LowRank
from llm_installer.export.shards import NAMES, Output, Source, first_byte, spans, write_file
from tests.generated import many

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda t: t != "__metadata__"),
    st.tuples(st.sampled_from([*NAMES]), SHAPES),
    max_size=5,
)


def output(name: str, tensor: torch.Tensor) -> Output:
    rows = tensor.reshape(1, *tensor.shape) if not tensor.ndim else tensor
    each = rows[0].numel() * tensor.dtype.itemsize if len(rows) else 0
    return Output(name, NAMES[tensor.dtype], tuple(tensor.shape), lambda a, b: rows[a:b], each)


@settings(max_examples=many(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TENSORS)
def test_what_is_written_is_what_is_read(tmp_path: Path, kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    made = {name: torch.randn(shape).to(kind) for name, (kind, shape) in kinds.items()}
    file = tmp_path / "model.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "CHUNK", 32)
        found = write_file(file, [output(name, tensor) for name, tensor in made.items()])
        assert found == sha256_of(file)
        header = read_header(file)
        with safe_open(file, framework="pt") as data:
            assert set(data.keys()) == set(made) == set(header)
            for name, tensor in made.items():
                read = data.get_tensor(name)
                assert read.dtype == tensor.dtype and torch.equal(read, tensor)
                source = Source(file, header[name], first_byte(file))
                parts = [
                    source.rows(a, b).reshape(b - a, *tensor.shape[1:]) for a, b in spans(source.count, tensor.shape)
                ]
                own = torch.cat(parts) if parts else tensor
                assert torch.equal(own.reshape(tensor.shape), tensor)


@settings(max_examples=many(40), deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_a_few_rows_at_a_time_make_the_same_as_all_at_once(
    rows: int, columns: int, rank: int, step: int, by_row: bool, seed: int
) -> None:
    """And the same as the formula of DoRA in the words of its paper, in float64."""
    generator = torch.Generator().manual_seed(seed)
    old = torch.randn(rows, columns, generator=generator)
    low = LowRank(torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator), 0.7)
    lengths = torch.rand(rows if by_row else columns, generator=generator) + 0.5
    parts = [(start, min(rows, start + step)) for start in range(0, rows, step)]
    dora = Dora(low, lengths, by_row).prepared(lambda a, b: old[a:b], parts)
    found = torch.cat([dora.rows(a, b, old[a:b]) for a, b in parts])
    exact = old.double() + 0.7 * (low.left.double() @ low.right.double())
    norms = exact.norm(dim=1 if by_row else 0, keepdim=True)
    exact = exact * (lengths.double()[:, None] if by_row else lengths.double()) / norms
    assert torch.allclose(found.double(), exact, rtol=1e-3, atol=1e-4)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    tensor = torch.zeros(1000, 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(DiskError, match=r"model.safetensors cannot be written"):
            write_file(tmp_path / "model.safetensors", [output("a", tensor)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


PEAK = """
import sys, torch
from pathlib import Path
from llm_installer.core.process_memory import peak_resident_bytes, resident_bytes
from llm_installer.export.changes import Dora, LowRank
from llm_installer.export.tensors import Base, plan_files
from llm_installer.export.write import write_file
from llm_installer.models.file_names import Place
folder, rows, columns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
low = LowRank(torch.randn(rows, 8), torch.randn(8, columns), 0.5)
changes = {"a0": [low], "b0": [Dora(low, torch.rand(columns), False)], "b1": [Dora(low, torch.rand(rows), True)]}
places = {name: Place(name) for name in ("a0", "a1", "b0", "b1")}
plan = plan_files(Base(folder, places, None), changes, "auto")
before = resident_bytes()
for name, outputs in plan.files.items():
    write_file(folder / f"new-{name}", outputs)
print(peak_resident_bytes() - before)
"""


def peak_above_the_interpreter(folder: Path, rows: int, columns: int) -> int:
    """Bytes that writing takes, for two files of two tensors of this shape in bfloat16."""
    weight = torch.zeros(rows, columns, dtype=torch.bfloat16)
    for file in "ab":
        write_file(folder / f"{file}.safetensors", [output(f"{file}{n}", weight) for n in (0, 1)])
    names = ", ".join(f'"{f}{n}": "{f}.safetensors"' for f in "ab" for n in (0, 1))
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{names}}}}}')
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), str(rows), str(columns)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_no_more_than_a_few_rows_are_in_memory(tmp_path: Path) -> None:
    """Four tensors of 32 MiB: what is needed beside the interpreter is less than two of them in float32."""
    assert peak_above_the_interpreter(tmp_path, 4096, 4096) < 100 << 20


@pytest.mark.slow
def test_two_shards_of_512_mib_fit_into_three_tensors_and_200_mb(tmp_path: Path) -> None:
    largest = 256 << 20
    assert peak_above_the_interpreter(tmp_path, 32768, 4096) < 3 * largest + 200_000_000
