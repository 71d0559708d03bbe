"""--dry-run refuses what a training refuses before its first weight, in the same words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command

REFUSED = {
    "layers": (("--target-modules", "q_proj,w_pack"), "No layer of this model is named w_pack"),
    "ranks": (("--rank-pattern", "w_pack=4"), "--rank-pattern names w_pack"),
    "gpus": (("--gpus", "200"), "--gpus 200"),
    "machines": (("--node-rank", "1"), "this machine has no GPU"),
    "method": (("--use-8bit", "--use-4bit"), "contradict each other"),
    "optimizer": (("--optimizer", "adamw_bnb_8bit"), "bitsandbytes"),
    "disk": (("--lora-r", "100000000"), "free; make room there"),
    "data": (("--validation-data", "none.jsonl"), "none.jsonl"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dry_run_refuses_what_the_run_refuses(kind: str, installed: Path, write_rows: Callable[..., Path]) -> None:
    words, sentence = REFUSED[kind]
    asked = ("train", "--model-path", installed, "--data", write_rows(20), *words)
    dry, real = (command(*asked, *more) for more in (("--dry-run",), ()))
    if kind == "optimizer" and dry.returncode == 0:
        pytest.skip("bitsandbytes works here")
    assert dry.returncode == real.returncode != 0, (dry.stdout, real.stderr)
    assert dry.stderr == real.stderr and sentence in dry.stderr
    assert not list((installed / "runs").glob("*"))


def test_no_weight_is_read_for_that(installed: Path, write_rows: Callable[..., Path]) -> None:
    """The headers remain; what follows them is gone."""
    weights = installed / "model" / "model.safetensors"
    size = weights.stat().st_size
    header = weights.read_bytes()[: 8 + int.from_bytes(weights.read_bytes()[:8], "little")]
    weights.write_bytes(header)
    with weights.open("ab") as sparse:
        sparse.truncate(size)
    done = command("train", "--model-path", installed, "--data", write_rows(20), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert shutil.disk_usage(installed).free
