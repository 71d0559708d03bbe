"""Training on pictures, from end to end: the loss falls, depends on the picture, and is that of the saved adapter."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console as RichConsole
from safetensors import safe_open

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Message
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir
from llm_installer.data.batches import collate
from llm_installer.data.preview import preview
from llm_installer.inference.load import load_assistant
from llm_installer.install.installer import install
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.options import Options
from llm_installer.train_lora import decide, run
from llm_installer.training.trainer import Trainer
from llm_installer.ui.console import Console
from tests.commands import command

SETTINGS = {"epochs": 15.0, "learning_rate": 5e-3, "batch_size": 4, "tensorboard": False, "seed": 1, "lora_r": 16}


def quiet() -> tuple[Console, io.StringIO]:
    said = io.StringIO()
    return Console(rich=RichConsole(file=said, width=200, highlight=False)), said


@pytest.fixture
def folder(llm_home: Path, seer) -> ModelDir:
    return ModelDir(install(str(seer.folder), say=lambda text: None).root)


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Other pictures of the same colours."""
    file = tmp_path / "held-out.jsonl"
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"other-{colour}.png")
    rows = [{"image": f"other-{c}.png", "caption": f"It is {c}."} for c in ("red", "blue", "green")]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def test_training_on_captions(folder, captions, held_out, tmp_path):
    captions.write_text(captions.read_text() + '\n{"instruction": "Say hello", "output": "Hello!"}')
    console, said = quiet()
    settings = {**SETTINGS, "force_epochs": True, "epochs": 15.0, "validation_data": str(held_out)}
    result = run(Options(model_path=str(folder.root), data=str(captions), **settings), console, tmp_path).result
    assert result.improved and result.best_loss < 0.5 * result.base_loss
    output = said.getvalue()
    assert "Before and after" in output and "9 rows to train on" in output
    info = json.loads((folder.lora / "adapter_info.json").read_text())
    assert info["base_model"]["fingerprint"] == fingerprint(folder.weights)
    assert info["plan"]["task"] == "vision" and info["style"] == "chat"
    with safe_open(folder.lora / "adapter_model.safetensors", "pt") as weights:
        names = list(weights.keys())
    assert names and not [n for n in names if "vision" in n or "projector" in n or "connector" in n]

    assistant = load_assistant(folder, folder.lora)
    job = decide(Options(model_path=str(folder.root), data=str(captions), **settings), quiet()[0], tmp_path)
    rows = list(job.prepared.validation)
    assert [len(row.images) for row in rows] == [1, 1, 1]
    loaded = Trainer(assistant.model, job.plan, job.encoder.eos, assistant.encoder.inputs)
    assert loaded.evaluate(rows) == pytest.approx(info["best_loss"], abs=1e-5)


def test_the_loss_is_the_models_own_and_depends_on_the_picture(seer, folder, captions, tmp_path):
    options = Options(model_path=str(folder.root), data=str(captions), validation_split=0, **SETTINGS)
    job = decide(options, quiet()[0], tmp_path)
    model = add_lora(load_base(folder.weights, "float32", "cpu"), job.plan)
    trainer = Trainer(model, job.plan, job.encoder.eos, job.encoder.inputs)
    rows = list(job.prepared.train)
    assert all(row.images for row in rows)
    own = []
    for row in rows:
        ids = torch.from_numpy(row.ids)[None].long()
        example = job.given.train[row.source]
        turns = [
            {"role": "user", "content": [{"type": "image", "path": example.images[0]}]},
            {"role": "assistant", "content": [{"type": "text", "text": example.messages[1].content}]},
        ]
        made = seer.processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
        made = {n: t[:, : ids.shape[1]] if t.shape == made["input_ids"].shape else t for n, t in made.items()}
        labels = ids.masked_fill(~torch.from_numpy(row.supervised)[None], -100)
        with torch.no_grad():
            own.append(float(model(**made, labels=labels).loss) * int(row.supervised.sum()))
    with torch.no_grad():
        assert trainer.evaluate(rows) * sum(int(r.supervised.sum()) for r in rows) == pytest.approx(sum(own), rel=1e-5)
        swapped = [replace(row, images=rows[i - 1].images) for i, row in enumerate(rows)]
        losses = [[float(trainer.loss_sum(collate([r], 0, trainer.inputs))) for r in some] for some in (rows, swapped)]
    assert all(a != b for a, b in zip(*losses, strict=True))


def test_only_the_language_side_is_trained(folder, captions, tmp_path):
    job = decide(Options(model_path=str(folder.root), data=str(captions), **SETTINGS), quiet()[0], tmp_path)
    model = add_lora(load_base(folder.weights, "float32", "cpu"), job.plan)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained and not [n for n in trained if "vision" in n or "projector" in n or "connector" in n]
    before = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    trainer = Trainer(model, job.plan, job.encoder.eos, job.encoder.inputs)
    trainer.step([collate(list(job.prepared.train), job.encoder.eos, trainer.inputs)], 1e-2)
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters() if n in before)


def test_start_answers_about_a_picture(llm_home, make_seer, captions, pictures, tmp_path):
    folder = ModelDir(install(str(make_seer("llava").folder), say=lambda text: None).root)
    settings = {**SETTINGS, "epochs": 40.0, "validation_split": 0.0, "force_epochs": True}
    console, said = quiet()
    run(Options(model_path=str(folder.root), data=str(captions), **settings), console, tmp_path)
    assert len(re.findall(r"tuned +It is \w+\.", said.getvalue())) == 4, "four different pictures are compared"
    start = ("start", "--model-path", folder.root)
    for picture in pictures[:2]:
        tuned = command(*start, "--image", picture, "--prompt", "", "--max-new-tokens", "8")
        assert tuned.returncode == 0 and tuned.stdout == f"It is {picture.stem}.\n" and "adapter" in tuned.stderr
    without = command(*start, "--image", pictures[0])
    assert without.returncode and without.stderr.startswith("Error: --image needs a question")
    gone = command(*start, "--image", "gone.png", "--prompt", "x")
    assert gone.returncode and "the image gone.png does not exist" in gone.stderr and "Traceback" not in gone.stderr


def test_start_with_a_text_model_refuses_pictures(installed, pictures):
    done = command("start", "--model-path", installed, "--image", pictures[0], "--prompt", "What?")
    assert done.returncode and "this model reads only text" in done.stderr and "Traceback" not in done.stderr


def test_a_text_model_trains_on_the_text_and_names_the_rest(installed, captions, tmp_path):
    console, said = quiet()
    captions.write_text(captions.read_text() + '\n{"instruction": "Say hello", "output": "Hello!"}')
    options = Options(model_path=str(installed), data=str(captions), validation_split=0, **SETTINGS, skip_test=True)
    result = run(options, console, tmp_path).result
    assert "8 records are skipped" in said.getvalue()
    assert "captions.jsonl:1: it has images, and this model reads only text" in said.getvalue()
    dropped = [json.loads(line) for line in (result.run / "dropped.jsonl").read_text().splitlines()]
    assert [d["line"] for d in dropped] == list(range(1, 9))


def test_an_image_that_vanishes_while_training_is_named(folder, captions, pictures, tmp_path):
    job = decide(Options(model_path=str(folder.root), data=str(captions), **SETTINGS), quiet()[0], tmp_path)
    pictures[0].unlink()
    with pytest.raises(DataError, match=r"the image .*red\.png does not exist; put it back"):
        collate(list(job.prepared.train) + list(job.prepared.validation), 0, job.encoder.inputs)


def test_a_broken_image_is_named_before_training(folder, captions, pictures, tmp_path):
    pictures[2].write_bytes(pictures[2].read_bytes()[:60])
    pictures[3].write_bytes(b"")
    console, said = quiet()
    console.show(decide(Options(model_path=str(folder.root), data=str(captions), **SETTINGS), console, tmp_path))
    output = said.getvalue()
    assert "2 records are skipped" in output
    assert f"captions.jsonl:3: the image {pictures[2]} " in output
    assert f"captions.jsonl:4: the image {pictures[3]} is empty" in output


def test_show_marks_what_is_learned(folder, captions, tmp_path):
    console, said = quiet()
    console.show(preview(Options(model_path=str(folder.root), data=str(captions), show=1), tmp_path))
    assert "[[It is " in said.getvalue()


def test_prompts_about_several_pictures_at_once_are_answered_as_alone(seer, pictures):
    from llm_installer.inference.generate import Sampling, answer, answers

    encoder, model = seer.encoder, load_base(seer.folder, "float32", "cpu").eval()
    asked = [("<image>", (str(pictures[0]),)), (f"<image>{'why ' * 5}", (str(pictures[5]),)), ("Hi", ())]
    images = [some for _, some in asked]
    ids = [encoder.prompt_ids([Message("user", text)], images=some) for text, some in asked]
    sampling = Sampling(max_new_tokens=6)
    alone = [answer(model, encoder, i, sampling, images=some).text for i, some in zip(ids, images, strict=True)]
    assert [a.text for a in answers(model, encoder, ids, sampling, images=images)] == alone
