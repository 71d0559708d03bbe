"""Exported files in llama.cpp itself, where llama-cpp-python is installed: the same tokens, and the same answers."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from llm_installer.api import export, install
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.load import load_assistant
from tests.export.made_models import make_adapter

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytestmark = pytest.mark.slow

# In a process of its own: what llama.cpp does not expect ends the process. Keys and values in float32, one thread.
WORKER = """
import json, sys
from llama_cpp import Llama
given = json.load(sys.stdin)
llm = Llama(given["file"], n_ctx=512, n_threads=1, n_threads_batch=1, type_k=0, type_v=0, flash_attn=False,
            lora_path=given.get("lora"), use_mmap=False, verbose=False)
tokens = [llm.tokenize(text.encode(), add_bos=False, special=False) for text in given["texts"]]
answers = []
for prompt in given["prompts"]:
    made = []
    for token in llm.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True):
        made.append(token)
        if len(made) == given["count"]:
            break
    answers.append(made)
json.dump({"tokens": tokens, "answers": answers}, sys.stdout)
"""
COUNT = 40
SURE = 1e-3
"""Of two tokens whose logits are nearer than that, either may be said."""
STARTS = (
    "Once upon a time",
    "The dog",
    "Lily and Tom",
    "One day, a big bear",
    "The sun was",
    "Mom said",
    "He",
    "In the",
)


def run(file: Path, texts: Sequence[str] = (), prompts: Sequence[Sequence[int]] = (), lora: Path | None = None) -> Any:
    given = {"file": str(file), "texts": [*texts], "prompts": [*map(list, prompts)], "count": COUNT}
    given |= {"lora": str(lora)} if lora else {}
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Exported:
    folder: ModelDir
    file: Path
    """In f32."""


@pytest.fixture(scope="module", params=["tiny", "stories260K"])
def exported(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    place = tmp_path_factory.mktemp("llama-cpp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(place))
        source = "tiny" if request.param == "tiny" else str(shared / "models" / request.param)
        folder = ModelDir(install(source))
        file = export(folder.root, to="gguf", type="f32", no_lora=True, out=place / "model.gguf").file
    return Exported(folder, file)


def texts() -> list[str]:
    """200 texts of words, digits, spaces, signs and other scripts."""
    chance = random.Random(0)
    parts = [
        "the ",
        "Lily",
        " 12",
        "3",
        "  ",
        "\n",
        "é",
        "漢",
        "😀",
        "'s",
        "...",
        "Tom",
        " went",
        "-",
        "\t",
        "Ärger",
        "!",
    ]
    return [*STARTS, *("".join(chance.choices(parts, k=chance.randrange(1, 12))) for _ in range(200 - len(STARTS)))]


def test_texts_have_the_same_tokens(exported: Exported) -> None:
    encoder = load_assistant(exported.folder, None).encoder
    backend = encoder.tokenizer.backend_tokenizer
    wanted = [backend.encode(text, add_special_tokens=False).ids for text in texts()]
    assert run(exported.file, texts=texts())["tokens"] == wanted


def test_without_scores_the_tokens_are_others(exported: Exported, tmp_path: Path) -> None:
    from gguf import GGUFReader

    spoilt = tmp_path / "spoilt.gguf"
    shutil.copy(exported.file, spoilt)
    field = GGUFReader(spoilt, "r+").fields.get("tokenizer.ggml.scores")
    if field is None:
        pytest.skip("this tokenizer merges by rank, not by score")
    for index in field.data:
        field.parts[index][0] = -1000.0
    assert run(spoilt, texts=texts())["tokens"] != run(exported.file, texts=texts())["tokens"]


def greedy_or_unsure(model: PreTrainedModel | torch.nn.Module, prompt: Sequence[int], said: Sequence[int]) -> bool:
    """Whether each token is the model's likeliest, up to one of which it is not sure."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    for row, token in zip(logits, said, strict=True):
        if int(row.argmax()) != token:
            return float(row.max() - row[token]) < SURE
    return True


def prompts_of(encoder: Encoder) -> list[list[int]]:
    """20 prompts."""
    chance = random.Random(1)
    return [encoder.text_ids(f"{chance.choice(STARTS)} {chance.choice(STARTS).lower()}") for _ in range(20)]


def test_answers_are_the_same(exported: Exported) -> None:
    assistant = load_assistant(exported.folder, None, precision="float32")
    prompts = prompts_of(assistant.encoder)
    for prompt, said in zip(prompts, run(exported.file, prompts=prompts)["answers"], strict=True):
        assert said and greedy_or_unsure(assistant.model, prompt, said)


def test_an_adapter_on_the_file_of_its_base_answers_as_tuned(exported: Exported, tmp_path: Path) -> None:
    lora = make_adapter(exported.folder, tmp_path / "lora", target_modules="all-linear", r=4, use_rslora=True)
    file = export(exported.folder.root, to="gguf-lora", lora=lora, out=tmp_path / "lora.gguf").file
    tuned = load_assistant(exported.folder, lora, precision="float32")
    prompts = prompts_of(tuned.encoder)
    answers = run(exported.file, prompts=prompts, lora=file)["answers"]
    for prompt, said in zip(prompts, answers, strict=True):
        assert greedy_or_unsure(tuned.model, prompt, said)
    assert answers != run(exported.file, prompts=prompts)["answers"]


def test_four_bits_open_and_answer(exported: Exported, tmp_path: Path) -> None:
    made = export(exported.folder.root, to="gguf", type="q4_k_m", no_lora=True, out=tmp_path / "small.gguf")
    assert made.bytes < exported.file.stat().st_size / 2
    assert all(len(said) for said in run(made.file, prompts=[[5, 9, 7]])["answers"])
