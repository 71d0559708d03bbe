"""The whole path as users type it: real processes, real signals, the built-in and the real pretrained model."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import Begun, command

QUICK = ("--no-tensorboard", "--skip-test", "--seed", "1")


def train(folder: Path, data: Path, *more: str, quick: bool = True) -> subprocess.CompletedProcess[str]:
    return command("train", "--model-path", folder, "--data", data, *(QUICK if quick else ()), *more)


def digest(folder: Path) -> str:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[tuple[Path, Path, str]]:
    """(model directory, data, console output) of one full run on the tiny random model."""
    home = tmp_path_factory.mktemp("a home") / "LLM"
    data = home.parent / "my data.jsonl"
    colours = ("red", "blue", "green", "yellow")
    rows = [{"instruction": f"Colour of thing {i}?", "output": f"It is {colours[i % 4]}."} for i in range(60)]
    data.write_text("\n".join(json.dumps(r) for r in [*rows, {"instruction": "?", "output": ""}]), encoding="utf-8")
    old = os.environ.get("LLM_HOME")
    os.environ["LLM_HOME"] = str(home)
    assert command("install", tiny_llama).returncode == 0
    folder = home / "models" / tiny_llama.name
    done = train(folder, data, "--epochs", "8", "--learning-rate", "1e-2", "--no-tensorboard", quick=False)
    assert done.returncode == 0, done.stderr
    yield folder, data, done.stdout
    os.environ.pop("LLM_HOME") if old is None else os.environ.update(LLM_HOME=old)


def test_console_says_what_was_decided_and_what_came_of_it(trained: tuple[Path, Path, str]) -> None:
    _, data, said = trained
    for part in (
        "Plan", "LoRA rank", "learning rate", "you set it", "1 record is skipped", f"{data}:61",
        "Evaluation #0 (before training)", "Evaluation #1 | Time: ", " | Train Loss: ", "Before and after", "expected",
        "tuned", "Stopped because", "start.sh", "Time: about ", "one evaluation takes",
    ):  # fmt: skip
        assert part in said.replace("\n", " ") or part in said, part
    assert "\x1b" not in said, "no control characters in a pipe"


def test_everything_promised_is_there(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    (run,) = (folder / "runs").iterdir()
    for name in ("plan.json", "metrics.jsonl", "training_history.png", "train.log", "dropped.jsonl", "logs"):
        assert (run / name).exists(), name
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_info.json", "tokenizer.json"):
        assert (folder / "lora" / name).is_file(), name
    duration = json.loads((run / "duration.json").read_text(), parse_constant=pytest.fail)
    assert duration["predicted_seconds"] > 0 and duration["took_seconds"] > duration["step_seconds"] > 0
    assert f"Predicted {duration['predicted']}, took " in (run / "report.md").read_text()
    assert (folder / "lora").resolve() == run / "adapter"
    assert (folder / "checkpoints").resolve() == run / "checkpoints"
    assert (folder / "training_history.png").resolve() == run / "training_history.png"
    assert (folder / "logs" / "training").resolve() == folder / "runs"
    info = json.loads((folder / "lora" / "adapter_info.json").read_text(), parse_constant=pytest.fail)
    assert info["best_loss"] < info["base_loss"]
    plan = json.loads((run / "plan.json").read_text(), parse_constant=pytest.fail)
    assert plan["course"]["epochs"] == 8 and plan["why"]["epochs"] == "you set it"
    dropped = json.loads((run / "dropped.jsonl").read_text())
    assert dropped["line"] == 61
    assert len(list((run / "logs").glob("events.*"))) == 1
    kinds = [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "evaluation"} == set(kinds)


def test_start_names_the_adapter_that_is_active(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    (run,) = (folder / "runs").iterdir()
    prompt = ("start", "--model-path", folder, "--prompt", "Colour of thing 4?", "--max-new-tokens", "20")
    tuned, base = command(*prompt), command(*prompt, "--no-lora")
    assert tuned.returncode == base.returncode == 0
    assert f"adapter {run.name}, step" in tuned.stderr
    assert "base model, no adapter" in base.stderr
    assert "It is" in tuned.stdout
    assert tuned.stdout != base.stdout


def test_start_chats_with_history_and_ends_with_the_input(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    asked = "Colour of thing 1?\n/new\nColour of thing 2?\n/quit\n"
    done = command("start", "--model-path", folder, "--max-new-tokens", "8", input=asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("It is") == 2
    assert "Starting over." in done.stderr


def test_adapter_for_another_base_is_refused_by_naming_both(
    trained: tuple[Path, Path, str], tiny_llama: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _, _ = trained
    other = tmp_path / "other-base"
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(other)
    installed = command("install", other, "--name", "other")
    assert installed.returncode == 0, installed.stderr
    second = Path(os.environ["LLM_HOME"]) / "models" / "other"
    done = command("start", "--model-path", second, "--lora", folder / "lora", "--prompt", "hi")
    assert done.returncode == 1
    assert "made for tiny-llama, but this is other" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_peft_gives_the_logits_that_training_saw(trained: tuple[Path, Path, str]) -> None:
    """`best_loss` of the training process, recomputed by a plain PEFT script in this one."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm_installer.core.model_info import read_model_info
    from llm_installer.data.batches import sample
    from llm_installer.data.encoding.encode import Encoder
    from llm_installer.data.encoding.tokenizer import load_tokenizer
    from llm_installer.data.prepare import prepare, read
    from llm_installer.planning.options import Options
    from llm_installer.planning.registry import find_handler

    folder, data, _ = trained
    info, options = read_model_info(folder / "model"), Options(data=str(data), seed=42)
    prepared = prepare(
        read(options, Path("/")), Encoder(load_tokenizer(folder / "lora")), options, info, find_handler(info)
    )
    saved = json.loads((folder / "lora" / "adapter_info.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    model = PeftModel.from_pretrained(base, folder / "lora").eval()
    total = count = 0.0
    with torch.no_grad():
        for row in sample(prepared.validation, saved["plan"]["course"]["evaluation_rows"], 42):
            ids = torch.from_numpy(row.ids[None].astype("int64"))
            logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            picked = logits[torch.arange(len(logits)), ids[0, 1:]]
            learned = torch.from_numpy(row.supervised[1:])
            total, count = total - picked[learned].sum().item(), count + learned.sum().item()
    assert total / count == pytest.approx(saved["best_loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--data", "missing.json"], 1, "missing.json"),
        (["--data", "broken.json"], 1, "broken.json"),
        (["--data", "data.jsonl", "--batch-size", "5", "--effective-batch-size", "16"], 2, "multiple of 5"),
        (["--data", "data.jsonl", "--epochs", "no"], 2, "--epochs"),
        (["--data", "data.jsonl", "--epoch", "3"], 2, "--epochs"),
        (["--data", "data.jsonl", "--target-modules", "nope"], 1, "q_proj"),
        (["--data", "data.jsonl", "--max-seq-length", "9999"], 2, "256"),
        (
            [
                "--data",
                "data.jsonl",
                "--learning-rate",
                "1e9",
                "--lora-alpha",
                "1e9",
                "--skip-test",
                "--no-tensorboard",
            ],
            1,
            "--learning-rate",
        ),
        ([], 2, "--data"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_lora_alone(
    installed: Path, write_rows: Callable[..., Path], tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    write_rows(24)
    (tmp_path / "broken.json").write_text('[{"instruction": "a", "output": ', encoding="utf-8")
    before = installed / "runs" / "old" / "adapter"
    before.mkdir(parents=True)
    (installed / "lora").symlink_to("runs/old/adapter")
    done = command("train", "--model-path", installed, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= (4 if code == 2 else 1), done.stderr
    assert (installed / "lora").resolve() == before


def test_debug_shows_where_an_error_came_from(installed: Path, tmp_path: Path) -> None:
    done = command("--debug", "train", "--model-path", installed, "--data", "missing.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_missing_weight_file_is_one_sentence(installed: Path, write_rows: Callable[..., Path]) -> None:
    (installed / "model" / "model.safetensors").unlink()
    done = train(installed, write_rows(24))
    assert done.returncode == 1
    assert "weights" in done.stderr and "Traceback" not in done.stderr
    assert not (installed / "lora").exists()


@pytest.fixture
def begin() -> Iterator[Callable[..., Begun]]:
    """Starts commands; what is left of them at the end of the test is killed."""
    begun: list[Begun] = []
    yield lambda *words: begun.append(Begun(*words)) or begun[-1]
    for process in begun:
        process.close()


def test_a_signal_saves_and_leaves_lora_as_it_was(
    begin: Callable[..., Begun], installed: Path, write_rows: Callable[..., Path]
) -> None:
    data = write_rows(60)
    assert train(installed, data, "--epochs", "1").returncode == 0
    good = (installed / "lora").resolve()
    sha = digest(good)
    words = ("--epochs", "9999", "--force-epochs", "--learning-rate", "1e-4", *QUICK)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        before = {*(installed / "runs").iterdir()}
        running = begin("train", "--model-path", installed, "--data", data, *words)
        next(line for line in running.stdout if line.startswith("Evaluation #0"))
        running.send_signal(number)
        _, said = running.communicate()
        assert running.returncode == code, said
        assert said.startswith(f"Interrupted by {number.name} at step ") and said.count("\n") == 1, "no error"
        assert (installed / "lora").resolve() == good and digest(good) == sha
        (stopped,) = {*(installed / "runs").iterdir()} - before
        assert (stopped / "checkpoints" / "last" / "optimizer.pt").is_file()


def test_a_hangup_that_was_to_be_ignored_is_ignored(
    start: Callable[..., subprocess.Popen[str]], installed: Path, write_rows: Callable[..., Path]
) -> None:
    """nohup ./train.sh & and the terminal closed: the run goes on to its end."""
    words = ("train", "--model-path", str(installed), "--data", str(write_rows(24)), "--epochs", "1", *QUICK)
    running = start(*words, before=["nohup"], stderr=subprocess.DEVNULL)
    assert running.stdout
    next(line for line in running.stdout if line.startswith("Evaluation #0"))
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=60)
    assert running.returncode == 0


def test_base_weights_are_never_touched(trained: tuple[Path, Path, str], tiny_llama: Path) -> None:
    folder, _, _ = trained
    ours, source = folder / "model" / "model.safetensors", tiny_llama / "model.safetensors"
    assert hashlib.sha256(ours.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_output_writes_there_and_leaves_lora_alone(
    installed: Path, write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    done = train(installed, write_rows(24), "--epochs", "1", "--output", str(tmp_path / "my adapter"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my adapter" / "adapter_model.safetensors").is_file()
    assert not (installed / "lora").exists()


def test_dry_run_and_show_load_no_weights(installed: Path, write_rows: Callable[..., Path]) -> None:
    data = write_rows(24)
    weights = installed / "model" / "model.safetensors"
    whole = weights.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    weights.write_bytes(whole[:header] + b"\xff" * (len(whole) - header))  # NaN: whoever reads them would notice
    plan = train(installed, data, "--dry-run")
    shown = train(installed, data, "--show", "2")
    assert plan.returncode == shown.returncode == 0
    assert "LoRA rank" in plan.stdout
    assert "[[It is red.<|im_end|>]]" in shown.stdout
    assert shown.stdout.count("[[") == 3, "two rows and the legend"
    assert list((installed / "runs").iterdir()) == []


def test_the_call_of_another_trainers_guide_returns_the_result(
    installed: Path, write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    from llm_installer import lora_sft

    record = installed / "model_info.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source": "hub", "id": "Org/Tiny-Instruct"}))
    result = lora_sft(
        model_path="Org/Tiny-Instruct",
        data_path=str(write_rows(24)),
        ckpt_output_dir=str(tmp_path / "outputs"),
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        lora_r=4,
        lora_alpha=8,
        num_epochs=1,
        effective_batch_size=4,
        micro_batch_size=2,
        bf16=False,
        fp16=False,
        sample_packing=False,
        enable_model_splitting=True,
        tensorboard=False,
        skip_test=True,
    )
    assert result.improved
    plan = json.loads((result.run / "plan.json").read_text())
    assert (plan["precision"], plan["micro_batch_rows"], plan["lora_r"]) == ("float32", 2, 4)
    assert result.adapter == tmp_path / "outputs" and (result.adapter / "adapter_model.safetensors").is_file()
