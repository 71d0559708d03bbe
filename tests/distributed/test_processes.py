"""Two real processes with gloo learn what one does, step for step, and can take over from each other.

A start costs seconds, so all that one process does is done in one, and all that two do in one start of two.
"""

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
from transformers import AutoConfig, AutoModelForCausalLM

from llm_installer.distributed.processes import shares
from llm_installer.planning.method import Method
from llm_installer.training.trainer import row_lengths

WORKER = Path(__file__).with_name("process_worker.py")
ROOT = Path(__file__).resolve().parents[2]
ROWS = 19
QLORA = {"method": Method(quantised="nf4")}
PLANS: dict[str, dict[str, Any]] = {
    "whole": {},
    "parts": {"micro_batch_rows": 4},
    "three": {"micro_batch_rows": 3},
    "dropout": {"lora_dropout": 0.2},
    "packed": {"packing": True},
    "qlora": QLORA,
    "qlora three": {**QLORA, "micro_batch_rows": 3},
    "bfloat16": {**QLORA, "precision": "bfloat16"},
    "dora": {"method": Method(quantised="nf4", dora=True)},
    "large": {"micro_batch_tokens": 2048},
}
Seen = dict[str, list[dict[str, Any]]]


def start(folder: Path, count: int, tasks: dict[str, tuple[str, dict[str, Any]]]) -> Seen:
    """Runs tasks in so many processes: for each task, what each of them saw."""
    folder.mkdir()
    (folder / "tasks.pickle").write_bytes(pickle.dumps(tasks))
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
    said = [process.communicate(timeout=180)[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(said)
    each = [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(count)]
    return {name: [seen[name] for seen in each] for name in tasks}


@pytest.fixture(scope="module")
def learned(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Seen]:
    """Everything that one process saw, everything that two saw, and one that goes on with the work of two."""
    folder, rows = tmp_path_factory.mktemp("processes"), make_rows(ROWS)
    longest = int(row_lengths(rows).max())

    def train(plan: str, run: str = "", **task: Any) -> tuple[str, dict[str, Any]]:
        made = plan_for(ROWS, epochs=2, **{"batch": 8, "evaluation_every": 2, **PLANS[plan]})
        place = folder / (run or f"{plan} {len(list(folder.iterdir()))}")
        (place / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        return "train", {"folder": place, "model": tiny_llama, "plan": made, "rows": rows, **task}

    def compare(plan: str, **task: Any) -> tuple[str, dict[str, Any]]:
        return "gradients", {"model": tiny_llama, "plan": plan_for(ROWS, **PLANS[plan]), **task}

    one = start(
        folder / "one",
        1,
        {name: train(name) for name in ("whole", "parts", "packed", "qlora", "dora")}
        | {"broken off": train("whole", "by one", end=4)},
    )
    two = start(
        folder / "two",
        2,
        {name: train(name) for name in ("whole", "packed", "qlora", "dropout")}
        | {
            "sharded": train("three", sharded=True),
            "sharded qlora": train("qlora three", sharded=True),
            "sharded dora": train("dora", sharded=True),
            "gradients": compare("qlora"),
            "gradients, checkpointed": compare("qlora", checkpointed=2),
            "gradients in bfloat16": compare("bfloat16"),
            "probed": train("large", tight=(2 * longest, 0), probed=True),
            "in a step": train("large", tight=(2 * longest, 5)),
            "in an evaluation": train("large", tight=(2 * longest, 0)),
            "broken off": train("whole", "by two", end=4),
            "gone on": train("whole", "by one", resume=True),
        },
    )
    after = start(folder / "after", 1, {"gone on": train("whole", "by two", resume=True)})
    return {"one": one, "two": two, "after": after}


@pytest.mark.slow
def test_two_processes_learn_as_one_does(learned: dict[str, Seen]) -> None:
    """Batch 8 at once = 2 x 4 one after the other = 2 processes x 4; the last step of an epoch has only 3 rows."""
    (whole,), (parts,) = learned["one"]["whole"], learned["one"]["parts"]
    first, second = learned["two"]["whole"]
    assert len(whole["losses"]) == 6
    for other in (parts, first, second):
        assert other["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        assert other["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-5)
    assert first["weights"] == second["weights"] == pytest.approx(whole["weights"], rel=1e-5)
    assert sum(first["computed"]) + sum(second["computed"]) == sum(whole["computed"])
    assert abs(sum(first["computed"]) - sum(second["computed"])) < 15, "the work is shared"


@pytest.mark.parametrize("plan", ["packed", "qlora"])
@pytest.mark.slow
def test_they_do_with_packed_rows_and_on_a_base_in_4_bits(learned: dict[str, Seen], plan: str) -> None:
    (whole,), seen = learned["one"][plan], learned["two"][plan]
    for process in seen:
        assert process["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        assert process["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-5)
        assert process["weights"] == pytest.approx(whole["weights"], rel=1e-5)
        assert process["paths"] == whole["paths"]
    plain = learned["one"]["whole"][0]
    if plan == "packed":
        assert any(path.startswith("packed rows") for path in whole["paths"])
        assert whole["losses"] == pytest.approx(plain["losses"], abs=1e-4)
    else:
        assert (whole["stored"], plain["stored"]) == (["Linear4bit"], ["Linear"])
        assert max(abs(a - b) for a, b in zip(whole["losses"], plain["losses"], strict=True)) > 1e-4


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(learned: dict[str, Seen]) -> None:
    (whole,) = learned["one"]["whole"]
    for began, gone_on in ((learned["two"], learned["after"]), (learned["one"], learned["two"])):
        assert {seen["number"] for seen in began["broken off"]} == {15}, "what one of them hears, all obey"
        assert {seen["step"] for seen in began["broken off"]} == {4}
        for seen in gone_on["gone on"]:
            assert seen["losses"] == pytest.approx(whole["losses"][4:], abs=1e-5)
            assert seen["weights"] == pytest.approx(whole["weights"], rel=1e-5)


@pytest.mark.slow
def test_each_process_draws_dropout_of_its_own(learned: dict[str, Seen]) -> None:
    first, second = learned["two"]["dropout"]
    assert first["losses"] == second["losses"]
    assert first["drawn"] != second["drawn"]


@pytest.mark.parametrize(
    ("plan", "sharded", "stored"),
    [
        ("whole", "sharded", ["Linear"]),
        ("qlora", "sharded qlora", ["Linear4bit"]),
        ("dora", "sharded dora", ["Linear4bit"]),
    ],
)
@pytest.mark.slow
def test_a_sharded_base_learns_the_same_in_half_the_memory(
    learned: dict[str, Seen], plan: str, sharded: str, stored: list[str]
) -> None:
    """Two of them with 3 micro-batches for 2 processes, so that one of them has to call the layers once for nothing."""
    (whole,), (first, second) = learned["one"][plan], learned["two"][sharded]
    for seen in (first, second):
        assert seen["losses"] == pytest.approx(whole["losses"], abs=1e-4)
        assert seen["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-4)
        assert seen["bytes"] == pytest.approx(whole["bytes"] / 2, rel=0.05)
        assert seen["stored"] == whole["stored"] == stored
    assert first["weights"] == second["weights"] == pytest.approx(whole["weights"], rel=1e-4)
    assert len(first["computed"]) == len(second["computed"])


@pytest.mark.parametrize("task", ["gradients", "gradients, checkpointed", "gradients in bfloat16"])
@pytest.mark.slow
def test_a_sharded_base_in_4_bits_has_the_gradients_of_a_whole_one(learned: dict[str, Seen], task: str) -> None:
    """Each number of each gradient is the same, for the same operations compute it from the same bytes."""
    for seen in learned["two"][task]:
        assert seen["off"] == 0 and seen["size"] > 0.01 and seen["count"] > 1000


@pytest.mark.slow
def test_routed_experts_have_the_same_gradients_beside_a_sharded_base(tmp_path: Path, plan_for: Callable) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "num_local_experts": 4, "vocab_size": 128}
    config = AutoConfig.for_model("mixtral", **sizes, **more)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    plan = plan_for(ROWS, target_modules=("all-linear", "experts"))
    task = ("gradients", {"model": tmp_path / "model", "plan": plan})
    for seen in start(tmp_path / "two", 2, {"experts": task})["experts"]:
        assert seen["off"] < 1e-5 and seen["size"] > 0.01 and seen["count"] > 1000


@pytest.mark.parametrize("task", ["probed", "in a step", "in an evaluation"])
@pytest.mark.slow
def test_memory_that_runs_out_in_one_process_loses_nothing(learned: dict[str, Seen], task: str) -> None:
    """One of them has no room for more than two of the longest rows: both back off, equally."""
    (whole,), (first, second) = learned["one"]["whole"], learned["two"][task]
    assert first["notes"] == second["notes"] and first["tokens"] == second["tokens"] < 2048
    assert all("more of them per step" in note for note in first["notes"]) and first["notes"]
    for seen in (first, second):
        assert seen["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        assert seen["evaluations"] == pytest.approx(whole["evaluations"], abs=1e-5)
        assert seen["weights"] == pytest.approx(whole["weights"], rel=1e-5)


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
