"""A run that is merged on the way into a GGUF file, and what Ollama is told about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from llm_installer import api
from llm_installer.core.errors import AdapterError, InstallerError, ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export.gguf import quantise
from llm_installer.export.gguf.file import plan_file
from llm_installer.export.gguf.read import load_model
from llm_installer.export.gguf.receipt import problems
from llm_installer.export.gguf.write import write_gguf
from llm_installer.export.kinds import ExportRequest
from llm_installer.export.ollama import usage
from llm_installer.export.ollama.modelfile import Line, read
from llm_installer.export.ollama.story import name_of
from llm_installer.export.receipt import Difference
from llm_installer.export.subject import Subject, subject_of
from tests.export.gguf_models import make
from tests.export.made_models import logits_of, make_adapter, tuned_logits
from tests.export.test_gguf_command import GOOD
from tests.tiers import first_here

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")
Base = Callable[[str], ModelDir]
IDS = torch.randint(3, 2048, (2, 40), generator=torch.Generator().manual_seed(3))
CASES: list[tuple[str, dict[str, object]]] = [
    ("llama", {"target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"q_proj": 7}}),
    ("llama-tied", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    ("llama-tied", {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}),
    ("llama-tied", {"target_modules": ["o_proj"], "trainable_token_indices": {"embed_tokens": [2, 9]}}),
    ("llama-bias", {"target_modules": ["k_proj"], "bias": "lora_only"}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
]


def subject(folder: ModelDir, lora: Path | None) -> Subject:
    return subject_of(folder, ExportRequest(lora=str(lora) if lora else None))


@pytest.mark.parametrize(("kind", "settings"), first_here(CASES, 2))
def test_the_file_is_the_tuned_model(kind: str, settings: dict[str, object], base: Base, tmp_path: Path) -> None:
    folder = base(kind)
    lora = make_adapter(folder, tmp_path / "lora", **settings)
    plan = plan_file(subject(folder, lora), "f32", Silence())
    write_gguf(tmp_path / "x.gguf", plan.model.family.arch, plan.values, plan.tensors, "f32")
    names = {each.name for each in plan.tensors}
    assert ("output.weight" in names) is (kind == "llama" or kind == "llama-bias" or "modules_to_save" in settings)
    config = AutoModelForCausalLM.from_pretrained(folder.weights).config
    loaded, _ = load_model(tmp_path / "x.gguf", config, torch.float32)
    tuned = tuned_logits(folder, lora, IDS)
    with torch.no_grad():
        found = loaded(input_ids=IDS).logits
    assert float((found - tuned).abs().max()) < 1e-4 < float((logits_of(folder.weights, IDS) - tuned).abs().max())


def test_a_few_rows_at_a_time_are_all_of_them(base: Base, tmp_path: Path) -> None:
    folder = base("gpt2")
    lora = make_adapter(folder, tmp_path / "lora", target_modules=["c_proj"], use_dora=True)
    for each in plan_file(subject(folder, lora), "f32", Silence()).tensors:
        whole = torch.cat([part.reshape(len(part), -1) for part in each.read()])
        assert whole.numel() == torch.Size(each.shape).numel()


def test_what_cannot_be_merged_on_the_way_is_one_sentence(base: Base, tmp_path: Path) -> None:
    folder = base("gemma2")
    lora = make_adapter(folder, tmp_path / "lora", target_modules=["q_proj"], modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match="an output layer of its own"):
        plan_file(subject(folder, lora), "f32", Silence())
    found = subject(base("llama"), None)
    told = replace(found, lora=tmp_path / "lora", about=replace(found.about, quantised="nf4"))
    with pytest.raises(AdapterError, match=r"4 or 8 bits.* merge .* --lora .*, and export the model"):
        plan_file(told, "f32", Silence())
    with pytest.raises(AdapterError, match="has no adapter to export"):
        api.export(base("llama").root, to="mlx")


def test_4_bits_need_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InstallerError, match=r"q4_k_m is made by llama.cpp itself; install it with: .* llama-cpp-python"
    ):
        quantise.refuse_quantising("q4_k_m")
    quantise.refuse_quantising("q8_0")


def test_a_training_that_the_rounding_takes_back_is_found() -> None:
    trained = Difference(largest_logit=0.1, kl=1e-3, same_top=1.0, decided=1.0, positions=10)
    gone = replace(GOOD, dtype="q8_0", trained=trained, base=trained, tuned=replace(GOOD.tuned, kl=9e-4))
    assert "too little survives the rounding to q8_0" in " ".join(problems(gone))
    assert not list(problems(replace(gone, tuned=replace(GOOD.tuned, kl=1e-4))))


def test_a_modelfile_says_what_training_says(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base("llama")
    plan = plan_file(subject(folder, None), "f16", Silence())
    lines, notes = usage.usage(plan.subject, plan)
    assert lines[:3] == [
        Line("PARAMETER", "256", "num_ctx"),  # all that it reads
        Line("PARAMETER", "0", "temperature"),
        Line("PARAMETER", "<|im_end|>", "stop"),
    ]
    assert lines[3].word == "TEMPLATE" and "<|im_start|>" in lines[3].value and not notes
    monkeypatch.setattr(usage, "_trained_length", lambda run: 3000)
    monkeypatch.setattr(usage, "_most", lambda plan: 8192)
    monkeypatch.setattr(usage, "_system", lambda of: 'Say "no".\n')
    monkeypatch.setattr(usage, "derive", lambda encoder: ("", "it trims"))
    (tmp_path / "LICENSE").write_text("Free.\n")
    told = replace(plan.subject, row=Row(), info=replace(plan.subject.info, path=tmp_path))  # type: ignore[arg-type]
    lines, notes = usage.usage(told, plan)
    assert lines[0].value == "3000" and [each.word for each in lines[3:]] == ["SYSTEM", "LICENSE"]
    assert notes == ["No TEMPLATE is written, since it trims; Ollama takes the chat template in the file"]
    monkeypatch.setattr(usage, "_trained_length", lambda run: 38)
    assert usage.usage(told, plan)[0][0].value == "2048", "a conversation is longer than short rows"
    text = replace(plan.subject, about=replace(plan.subject.about, style="text"))
    assert Line("TEMPLATE", "{{ .Prompt }}") in usage.usage(text, plan)[0]


class Row:
    """A run of which only that there is one matters."""

    run = None


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tiny-ollama", "tiny"), ("My Model:v2-20261127-fast-ollama", "my-model-v2-20261127-fast"), ("...", "model")],
)
def test_names_for_ollama_have_no_colon(folder: str, name: str) -> None:
    assert name_of(Path(folder)) == name


@pytest.mark.slow
def test_base_and_adapter_for_ollama_in_two_files(home: Path) -> None:
    folder = ModelDir(api.install("tiny"))
    lora = make_adapter(folder, home / "my lora", target_modules="all-linear")
    found = api.export(folder.root, to="ollama", lora=lora, as_adapter=True)
    assert {p.name for p in found.file.iterdir()} == {
        "Modelfile", "receipt.json", "tiny-f16.gguf", "adapter.gguf", "adapter.gguf.receipt.json",
    }  # fmt: skip
    lines = list(read((found.file / "Modelfile").read_text("utf-8")))
    assert lines[:3] == [
        Line("FROM", "./tiny-f16.gguf"), Line("ADAPTER", "./adapter.gguf"), Line("REQUIRES", "0.32.0"),
    ]  # fmt: skip
    assert json.loads((found.file / "adapter.gguf.receipt.json").read_text("utf-8"))["tuned"]["kl"] < 1e-6
    assert found.commands[1:] == ("ollama create tiny-my-lora -f Modelfile", "ollama run tiny-my-lora")


PEAK = """
import sys
from pathlib import Path
from llm_installer.core.process_memory import peak_resident_bytes, resident_bytes
from llm_installer.export.gguf.tensors import plan_tensors, Read
from llm_installer.export.gguf.families import FAMILIES
from llm_installer.export.gguf.write import write_gguf
from llm_installer.models.from_files import without_weights
folder, kind = Path(sys.argv[1]), sys.argv[2]
bare = without_weights(folder)
read = Read(folder, bare, FAMILIES["llama"])
tensors = plan_tensors(read, kind)
before = resident_bytes()
write_gguf(folder / "x.gguf", "llama", {"tokenizer.ggml.model": "llama"}, tensors, kind)
print(peak_resident_bytes() - before)
"""


@pytest.mark.slow
def test_writing_takes_three_tensors_and_200_mb_at_most(tmp_path: Path) -> None:
    """Some 400 MB of weights, of which the embedding is 128."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=32768, hidden_size=2048, intermediate_size=4096, num_hidden_layers=3, num_attention_heads=16,
        num_key_value_heads=16, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    for weight in model.parameters():
        weight.data.zero_()
    model.save_pretrained(tmp_path)
    largest = 32768 * 2048 * 2
    for kind in ("f16", "q8_0"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path), kind], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 3 * largest + 200_000_000
        (tmp_path / "x.gguf").unlink()


MOMENTS = """
import os, random, shutil, signal, sys, time, warnings
from pathlib import Path
from llm_installer.export.place import leaving
from llm_installer.export.gguf.write import write_gguf
from tests.export.gguf_models import planned

warnings.simplefilter("ignore")  # a fork beside threads, which are idle
target, chance = Path(sys.argv[2]), random.Random(0)
read, tensors = planned(Path(sys.argv[1]))

def make():
    with leaving(target) as part:
        part.mkdir()
        write_gguf(part / "x.gguf", read.family.arch, {}, tensors, "f32")
        (part / "Modelfile").write_text("FROM ./x.gguf")

start = time.monotonic()
make()
usual, size = time.monotonic() - start, (target / "x.gguf").stat().st_size
found = set()
for _ in range(20):
    shutil.rmtree(target, ignore_errors=True)
    child = os.fork()
    if not child:
        make()
        os._exit(0)
    time.sleep(chance.random() * 1.5 * usual)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    names = {each.name for each in target.parent.iterdir()}
    assert names <= {target.name, "." + target.name + ".part"}, names
    found.add(target.name in names)
    if target.name in names:
        assert (target / "x.gguf").stat().st_size == size and (target / "Modelfile").stat().st_size == 13
shutil.rmtree(target, ignore_errors=True)
make()
assert [each.name for each in target.parent.iterdir()] == [target.name], "what was left is swept"
print(len(found))
"""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_all_or_nothing(home: Path) -> None:
    make("llama-tied", home / "m")
    (home / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MOMENTS, str(home / "m"), str(home / "out" / "x")],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
