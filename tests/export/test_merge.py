"""`llm-installer merge` from end to end: what is there afterwards is proven, or nothing is there."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from llm_installer import api
from llm_installer.core.errors import AdapterError, DiskError, InstallerError, ModelError, UsageError
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export import changes, measure
from llm_installer.export import merge as story
from llm_installer.export.merge import MergeRequest, merge
from llm_installer.export.target import default_name
from llm_installer.inference.load import load_assistant
from llm_installer.install.installed import list_models, remove
from llm_installer.install.installer import install
from llm_installer.install.model_record import read_record
from llm_installer.install.naming import wrong_with_name
from llm_installer.models.quantise import quantising
from tests.export.made_models import make_adapter

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test does not spend its time on them."""
    monkeypatch.setattr(measure, "LENGTH", 6)


@pytest.fixture
def lora(installed: Path, tmp_path: Path) -> Path:
    """A random adapter of the installed random Llama."""
    return make_adapter(ModelDir(installed), tmp_path / "by hand", target_modules="all-linear")


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


@pytest.mark.slow
def test_a_merged_model_is_installed_and_answers_and_trains(
    installed: Path, lora: Path, write_rows: Callable[..., Path]
) -> None:
    found = api.merge("tiny-llama", lora=lora)
    root = found.folder.root
    assert root == models_dir() / "tiny-llama-by-hand" and found.untied == 0
    assert files(installed) - {"runs", "logs"} <= files(root) | {"logs/training"}
    record = read_record(found.folder.info)
    assert record.lineage and record.lineage.base_fingerprint == read_record(installed / "model_info.json").fingerprint
    assert record.source == "merged" and record.lineage.adapter == "by hand"
    assert [model.name for model in list_models() if model.complete] == ["tiny-llama", "tiny-llama-by-hand"]
    receipt = json.loads((root / "receipt.json").read_text("utf-8"))
    assert receipt["tuned"]["same_top"] == 1 and receipt["tuned"]["kl"] < 1e-6 < receipt["base"]["kl"]
    assert receipt["tokens_equal"] and receipt["prompts"] == "a few bundled prompts"
    process = subprocess.run(
        [root / "start.sh", "--prompt", "Hello", "--max-new-tokens", "4"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "merged from tiny-llama and by hand" in process.stderr
    result = api.lora_sft(root, write_rows(4), epochs=1, effective_batch_size=2, skip_test=True, tensorboard=False)
    assert result.steps == 2


def test_a_name_or_folder_of_ones_own(installed: Path, lora: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "mine"
    found = merge(ModelDir(installed), MergeRequest(lora=str(lora), to=str(folder)), Silence())
    assert found.folder.root == folder and ModelDir.find(folder).info.is_file()
    assert os.listdir(folder.parent) == ["mine"]
    with pytest.raises(ModelError, match="is there already"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora), to=str(folder)), Silence())
    with pytest.raises(UsageError, match="cannot be called 'a:b'"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora), to="a:b"), Silence())


@pytest.mark.parametrize(
    ("base", "run"),
    [("tiny", "20261126-201530-fast"), ("a" * 150, "20261126-201530-fast-2"), ("a:b", "c d:e"), ("x", "y" * 300)],
)
def test_default_names_can_be_had_on_any_system(base: str, run: str) -> None:
    assert wrong_with_name(default_name(base, run)) == ""
    assert ":" not in default_name(base, run) and len(default_name(base, run)) <= 80


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (MergeRequest(), "has no adapter to merge"),
        (MergeRequest(run="last", lora="x"), "contradict each other"),
        (MergeRequest(lora="nowhere"), "or name another one with --run or --lora"),
        (MergeRequest(dtype="int8"), "--dtype int8 is none of auto"),
        (MergeRequest(run="last"), "has no runs yet"),
    ],
)
def test_words_that_mean_nothing_are_refused(request_: MergeRequest, said: str, installed: Path) -> None:
    with pytest.raises(InstallerError, match=said):
        merge(ModelDir(installed), request_, Silence())
    assert os.listdir(models_dir()) == ["tiny-llama"]


def test_onto_is_for_runs_on_a_quantised_base(installed: Path, lora: Path) -> None:
    with pytest.raises(UsageError, match="--onto is for runs on a base in 4 or 8 bits"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora), onto="full"), Silence())


def test_a_sum_that_is_wrong_is_found_and_nothing_is_kept(
    installed: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale forgotten, as alpha / r of a LoRA easily is."""
    plain = changes.LowRank.delta
    monkeypatch.setattr(changes.LowRank, "delta", lambda self, a, b: plain(self, a, b) / self.scale)
    with pytest.raises(ModelError, match=r"is not what was trained, and was not kept: it is .* nats per token away"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora)), Silence())
    assert os.listdir(models_dir()) == ["tiny-llama"]


def test_a_training_that_the_rounding_takes_back_is_refused(installed: Path, tmp_path: Path) -> None:
    small = make_adapter(ModelDir(installed), tmp_path / "small", strength=1e-4, target_modules="all-linear")
    with pytest.raises(ModelError, match="too little survives the rounding to bfloat16"):
        merge(ModelDir(installed), MergeRequest(lora=str(small), dtype="bfloat16"), Silence())
    assert os.listdir(models_dir()) == ["tiny-llama"]


def test_a_base_in_another_format_is_refused(installed: Path, lora: Path) -> None:
    weights = installed / "model"
    torch.save({}, weights / "pytorch_model.bin")
    (weights / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"are in pytorch_model.bin, and only safetensors files can be merged"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora)), Silence())


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("stories260K", "tiny")])
def test_real_models_say_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    """In float32 as good as exactly, in bfloat16 nearly."""
    folder = install(name if name == "tiny" else str(shared / "models" / name), say=lambda text: None)
    lora = make_adapter(folder, tmp_path / "lora", 0.02, target_modules="all-linear", r=8)
    exact = merge(folder, MergeRequest(lora=str(lora), dtype="float32"), Silence()).receipt
    assert exact.tuned.same_top == 1 and exact.tuned.kl < 1e-6 and exact.answers.equal == exact.answers.asked
    assert exact.base.kl == pytest.approx(exact.trained.kl, rel=1e-3)
    rounded = merge(folder, MergeRequest(lora=str(lora), dtype="bfloat16", to="rounded"), Silence()).receipt
    assert rounded.tuned.kl < 1e-3 and rounded.rounding.moved > 0


@pytest.mark.slow
def test_a_run_on_four_bits_is_merged_onto_the_base_it_saw(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    lora = make_adapter(ModelDir(installed), tmp_path / "lora", target_modules=["q_proj", "down_proj"])
    (lora / "adapter_info.json").write_text(json.dumps({"style": "chat", "quantised": "nf4"}), "utf-8")
    assert quantising("nf4", torch.float32)
    found = merge(ModelDir(installed), MergeRequest(lora=str(lora)), Silence())
    receipt = found.receipt
    assert receipt.onto == receipt.nearer == "dequantised" and receipt.tuned.kl < 1e-6
    assert receipt.as_trained["dequantised"].kl < 1e-6 < receipt.as_trained["full"].kl
    assert "quantization_config" not in json.loads((found.folder.weights / "config.json").read_text("utf-8"))
    trained = load_assistant(ModelDir(installed), lora, "nf4").model
    merged = load_assistant(found.folder, None).model
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert (trained(input_ids=ids).logits - merged(input_ids=ids).logits).abs().max() < 1e-4
    full = merge(ModelDir(installed), MergeRequest(lora=str(lora), onto="full", to="full"), Silence()).receipt
    assert full.onto == "full" and full.tuned.kl < 1e-6 and full.as_trained["full"] == receipt.as_trained["full"]


def killed(installed: Path, lora: Path, seconds: float) -> bool:
    """Kill a merge some time after its staging folder is there. Whether the target is there then."""
    target, staging = models_dir() / "new", models_dir() / ".new.installing"
    request = MergeRequest(lora=str(lora), to="new")
    # A fork has all libraries at once, which a new program would spend its time on.
    process = get_context("fork").Process(target=merge, args=(ModelDir(installed), request, Silence()))
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and not staging.exists() and not target.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.join(60)
    if not target.exists():
        return False
    assert (target / "receipt.json").is_file()
    assert [model.complete for model in list_models() if model.name == "new"] == [True]
    return True


@pytest.mark.parametrize("times", [pytest.param(3, id="3"), pytest.param(20, id="20", marks=pytest.mark.slow)])
def test_after_a_kill_the_model_is_absent_or_complete(times: int, installed: Path, lora: Path) -> None:
    moments = random.Random(0)
    for _ in range(times):
        if killed(installed, lora, moments.uniform(0, 2)):
            remove("new")
    assert [model.name for model in list_models()] == ["tiny-llama"]
    merge(ModelDir(installed), MergeRequest(lora=str(lora), to="new"), Silence())
    assert sorted(os.listdir(models_dir())) == ["new", "tiny-llama"]


def test_what_another_process_has_just_made_is_not_replaced(
    installed: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the name and the lock."""
    lock = story.directory_lock

    def late(*words: str) -> AbstractContextManager[None]:
        (models_dir() / "new").mkdir()
        return lock(*words)

    monkeypatch.setattr(story, "directory_lock", late)
    with pytest.raises(ModelError, match="new is there already"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora), to="new"), Silence())
    assert os.listdir(models_dir() / "new") == []


def test_a_folder_that_cannot_be_written_to_is_one_sentence(installed: Path, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"cannot be written \(Not a directory\)"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora), to=str(tmp_path / "file" / "new")), Silence())


def test_a_disk_that_is_full_leaves_nothing(installed: Path, lora: Path) -> None:
    before, handled = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskError, match=r"model.safetensors cannot be written \(File too large\)"):
            merge(ModelDir(installed), MergeRequest(lora=str(lora)), Silence())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert os.listdir(models_dir()) == ["tiny-llama"]


def test_the_adapter_of_another_base_is_refused(installed: Path, lora: Path) -> None:
    info = {"base_model": {"name": "other", "fingerprint": "0"}}
    (lora / "adapter_info.json").write_text(json.dumps(info), "utf-8")
    with pytest.raises(AdapterError, match="was made for other"):
        merge(ModelDir(installed), MergeRequest(lora=str(lora)), Silence())
