"""Two real processes with gloo learn what one does, step for step, and can take over from each other."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.training.processes import shares

WORKER = Path(__file__).with_name("process_worker.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def learn(tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path: Path) -> Callable[..., list[dict]]:
    """Trains in so many processes, and returns what each of them saw."""

    def start(
        name: str, count: int, *, resume: bool = False, end: int | None = None, sharded: bool = False, **changed: Any
    ) -> list[dict]:
        folder = tmp_path / name
        (folder / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        plan = plan_for(19, epochs=2, **{"batch": 8, **changed})
        task = {"model": tiny_llama, "plan": plan, "rows": make_rows(19)}
        task |= {"resume": resume, "end": end, "sharded": sharded}
        (folder / "task.pickle").write_bytes(pickle.dumps(task))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        started = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(folder)],
                env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        said = [process.communicate(timeout=120)[1] for process in started]
        assert [process.returncode for process in started] == [0] * count, "\n".join(said)
        return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(count)]

    return start


def test_two_processes_learn_as_one_does(learn: Callable) -> None:
    """Batch 8 at once = 2 x 4 one after the other = 2 processes x 4; the last step of an epoch has only 3 rows."""
    (whole,) = learn("whole", 1, evaluation_every=2)
    (parts,) = learn("parts", 1, evaluation_every=2, micro_batch_rows=4)
    first, second = learn("two", 2, evaluation_every=2)
    assert len(whole["losses"]) == 6
    for other in (parts, first, second):
        assert other["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        assert other["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-5)
    assert first["weights"] == second["weights"] == pytest.approx(whole["weights"], rel=1e-5)
    assert sum(first["computed"]) + sum(second["computed"]) == sum(whole["computed"])
    assert abs(sum(first["computed"]) - sum(second["computed"])) < 15, "the work is shared"


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(learn: Callable, before: int, after: int) -> None:
    (whole,) = learn("whole", 1)
    began = learn("broken", before, end=4)
    assert {seen["number"] for seen in began} == {15}, "what one of them hears, all obey"
    assert {seen["step"] for seen in began} == {4}
    gone_on = learn("broken", after, resume=True)
    for seen in gone_on:
        assert seen["losses"] == pytest.approx(whole["losses"][4:], abs=1e-5)
    assert gone_on[0]["weights"] == pytest.approx(whole["weights"], rel=1e-5)


def test_each_process_draws_dropout_of_its_own(learn: Callable) -> None:
    first, second = learn("dropout", 2, lora_dropout=0.2)
    assert first["losses"] == second["losses"]
    assert first["drawn"] != second["drawn"]


def test_a_parted_base_learns_the_same_in_half_the_memory(learn: Callable) -> None:
    """With 3 micro-batches for 2 processes, so that one of them has to call the layers once for nothing."""
    (whole,) = learn("whole", 1, evaluation_every=2)
    first, second = learn("parted", 2, sharded=True, evaluation_every=2, micro_batch_rows=3)
    for seen in (first, second):
        assert seen["losses"] == pytest.approx(whole["losses"], abs=1e-4)
        assert seen["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-4)
        assert seen["bytes"] == pytest.approx(whole["bytes"] / 2, rel=0.05)
    assert first["weights"] == second["weights"] == pytest.approx(whole["weights"], rel=1e-4)
    assert len(first["computed"]) == len(second["computed"])


@pytest.mark.parametrize(
    ("sizes", "parts", "dealt"),
    [
        ([5], 1, [[0]]),
        ([5], 2, [[0], []]),
        ([9, 5, 4], 2, [[0], [1, 2]]),
        ([1, 1, 1, 1, 1], 2, [[0, 2, 4], [1, 3]]),
        ([], 2, [[], []]),
    ],
)
def test_work_is_dealt_evenly(sizes: list[int], parts: int, dealt: list[list[int]]) -> None:
    assert shares(sizes, parts) == dealt
