"""A result from elsewhere: a sound one becomes a run, and everything that could be wrong with it is one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from llm_installer.core.errors import TrainingError
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RunRecord
from llm_installer.planning.options import Options
from llm_installer.runs.listing import list_runs, use
from llm_installer.runs.resume import find_unfinished
from llm_installer.studio.colab.accept import Expected, adopt, take
from llm_installer.studio.colab.bundle import FILES, WEIGHTS, Origin, write_bundle
from llm_installer.studio.results import NAMES, NotAccepted
from tests.generated import many

LAYERS = {"q_proj": (8, 8), "up_proj": (16, 8)}
"""(outputs, inputs) of the layers of the base, as files have them."""
RANK = 2
Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """A base of two layers."""
    return model_at(tmp_path_factory.mktemp("models") / "two-layers")


def model_at(root: Path) -> ModelDir:
    """A base of two layers, made by hand."""
    weights = {f"model.layers.0.{name}.weight": np.ones(shape, np.float32) for name, shape in LAYERS.items()}
    (root / "model").mkdir(parents=True)
    (root / "model" / "model.safetensors").write_bytes(save(weights))
    config = {"model_type": "llama", "vocab_size": 20, "num_hidden_layers": 1, "hidden_size": 8}
    (root / "model" / "config.json").write_text(json.dumps(config))
    (root / "model_info.json").write_text(json.dumps({"source": "hub", "id": "some/base", "name": "two-layers"}))
    return ModelDir(root)


def tensors(kind: type[np.floating] = np.float32) -> dict[str, np.ndarray]:
    found = {}
    for name, (outputs, inputs) in LAYERS.items():
        start = f"base_model.model.model.layers.0.{name}"
        found[f"{start}.lora_A.weight"] = np.full((RANK, inputs), 0.5, kind)
        found[f"{start}.lora_B.weight"] = np.full((outputs, RANK), 0.25, kind)
    return found


def sound(model: ModelDir) -> Parts:
    """The files of a good result, by their place."""
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "some/base", "r": RANK,
        "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": [*LAYERS], "auto_mapping": None, "bias": "none",
        "loftq_config": {}, "modules_to_save": None, "rank_pattern": {}, "megatron_core": "megatron.core",
    }  # fmt: skip
    about = {"base_model": {"name": "b", "fingerprint": fingerprint(model.weights)}, "style": "chat", "best_step": 4}
    result = {"steps": 5, "best_step": 4, "base_loss": 3.0, "best_loss": 1.5, "stop_reason": "all epochs are done"}
    record = {"options": {"epochs": 2, "x": {"nested": 1}}, "data": "rows.csv", "result": result | {"improved": True}}
    objects = {"adapter/adapter_config.json": config, "adapter/adapter_info.json": about, "run.json": record}
    texts = {name: json.dumps(value).encode() for name, value in objects.items()}
    metrics = b'{"kind": "step", "step": 1, "loss": 3.0}\n'
    return texts | {WEIGHTS: save(tensors()), "plan.json": b'{"mode": "fast"}', "metrics.jsonl": metrics}


def zipped(parts: Parts, model: ModelDir, hashes: dict[str, str] | None = None, **more: object) -> bytes:
    """A bundle, with a manifest that is right unless something else is given."""
    hashes = hashes or {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    manifest = {"job": "j1", "version": "0.1.0+h1", "base": fingerprint(model.weights), "files": hashes} | more
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def drop(content: bytes, model: ModelDir, folder: Path) -> Run:
    file = folder / "dropped.zip"
    file.write_bytes(content)
    return take(file, Expected(model, "j1", "my rows.csv"))


def refused(content: bytes, model: ModelDir, folder: Path) -> str:
    """Why it is refused; nothing is left of it."""
    before = sorted(model.runs.iterdir()) if model.runs.is_dir() else []
    with pytest.raises(NotAccepted) as error:
        drop(content, model, folder)
    assert sorted(model.runs.iterdir()) == before
    said = str(error.value)
    assert "\n" not in said and len(said) < 300 and str(folder) not in said and ".accepting" not in said, said
    return said


def changed(parts: Parts, name: str, **values: object) -> Parts:
    return {**parts, name: json.dumps(json.loads(parts[name]) | values).encode()}


CONFIG, INFO = "adapter/adapter_config.json", "adapter/adapter_info.json"


def test_a_sound_result_becomes_an_ordinary_run(model: ModelDir, tmp_path: Path) -> None:
    run = drop(zipped(sound(model), model), model, tmp_path)
    row = next(row for row in list_runs(model) if row.run.id == run.id)
    assert (row.mode, row.status, row.steps, row.best_step) == ("fast", "finished", 5, 4)
    assert (row.base_loss, row.best_loss, row.data, row.usable) == (3.0, 1.5, "my rows.csv", True)
    assert use(model, run.id) and model.lora.resolve() == run.adapter.resolve()
    record = RunRecord.read(run)
    assert record and record.options == {"epochs": 2}
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/base"
    with pytest.raises(TrainingError, match="trained on another machine, where its checkpoints stayed"):
        find_unfinished(model, Options(resume_from=run.id), model.runs, lambda text: None)


def test_what_a_run_hands_over_is_what_is_taken(model: ModelDir, tmp_path: Path) -> None:
    """The writer and the reader of a bundle agree, and the same files are accepted from a worker's upload."""
    assert set(FILES) < set(NAMES)
    first = drop(zipped(sound(model), model), model, tmp_path)
    write_bundle(first, model, Origin("j1", "0.1.0+h1"), tmp_path / "out.zip")
    once = (tmp_path / "out.zip").read_bytes()
    write_bundle(first, model, Origin("j1", "0.1.0+h1"), tmp_path / "out.zip")
    assert once == (tmp_path / "out.zip").read_bytes()
    again = take(tmp_path / "out.zip", Expected(model, "j1"))
    assert (again.adapter / "adapter_model.safetensors").read_bytes() == sound(model)[WEIGHTS]
    third = adopt({name: file for name in FILES if (file := again.root / name).is_file()}, Expected(model, "j2"))
    assert third.metrics.read_bytes() == again.metrics.read_bytes()


def test_the_row_of_an_end_token_is_part_of_a_result(model: ModelDir, tmp_path: Path) -> None:
    """What training adds where the base never learned to end; here for an output layer with weights of its own."""
    name = "base_model.model.model.layers.0.up_proj.token_adapter.trainable_tokens_delta"
    parts = {**sound(model), WEIGHTS: save({**tensors(), name: np.ones((1, 8), np.float32)})}
    parts = changed(parts, CONFIG, trainable_token_indices={"up_proj": [3]})
    assert drop(zipped(parts, model), model, tmp_path).adapter.is_dir()
    parts = {**parts, WEIGHTS: save({**tensors(), name: np.ones((1, 9), np.float32)})}
    assert "1 x 9" in refused(zipped(parts, model), model, tmp_path)


def without(name: str) -> Callable[[Parts], Parts]:
    return lambda parts: {key: value for key, value in parts.items() if key != name}


def weights(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Parts], Parts]:
    return lambda parts: {**parts, WEIGHTS: save(change(tensors()))}


Q_A, Q_B = (f"base_model.model.model.layers.0.q_proj.lora_{half}.weight" for half in "AB")
HALVES = {"F16": np.float16, "F32": np.float32}


def other(name: str, value: np.ndarray) -> Callable[[Parts], Parts]:
    return weights(lambda found: {**found, name: value})


def bfloat16_infinity(parts: Parts) -> Parts:
    """By hand, for numpy has no such type."""
    found = {name: array.shape for name, array in tensors().items()}
    header, body = {}, b""
    for name, shape in found.items():
        content = struct.pack("<H", 0x3F80) * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    body = body[:-2] + struct.pack("<H", 0xFF80)
    text = json.dumps(header).encode()
    return {**parts, WEIGHTS: struct.pack("<Q", len(text)) + text + body}


BROKEN: dict[str, tuple[Callable[[Parts], Parts], str]] = {
    "no weights": (without(WEIGHTS), "is missing"),
    "no plan": (without("plan.json"), "plan.json is missing"),
    "a pickle": (lambda p: {**p, "adapter/adapter_model.bin": b"x"}, "has no"),
    "code": (lambda p: {**p, "adapter/modeling.py": b"import os"}, "has no"),
    "a tokenizer": (lambda p: {**p, "adapter/tokenizer_config.json": b"{}"}, "has no"),
    "a path upwards": (lambda p: {**p, "../../run.json": b"{}"}, "has no"),
    "an absolute path": (lambda p: {**p, "/etc/passwd": b"{}"}, "has no"),
    "a path of Windows": (lambda p: {**p, "..\\run.json": b"{}"}, "has no"),
    "another kind of adapter": (lambda p: changed(p, CONFIG, peft_type="IA3"), "not a LoRA"),
    "another base": (lambda p: changed(p, CONFIG, base_model_name_or_path="some/other"), "this job is for some/base"),
    "a local base": (lambda p: changed(p, CONFIG, base_model_name_or_path="/etc"), "this job is for some/base"),
    "other base weights": (lambda p: changed(p, INFO, base_model={"fingerprint": "0"}), "another base"),
    "no word about its base": (lambda p: changed(p, INFO, base_model=None), "another base"),
    "auto_map": (lambda p: changed(p, CONFIG, rank_pattern={"auto_map": 2}), "auto_map"),
    "auto_map deep inside": (lambda p: changed(p, "plan.json", a=[{"b": {"auto_map": "x.py"}}]), "auto_map"),
    "auto_mapping": (lambda p: changed(p, CONFIG, auto_mapping={"base_model_class": "x"}), "auto_mapping"),
    "a module to import": (lambda p: changed(p, CONFIG, megatron_config={"a": 1}), "megatron_config"),
    "another setting": (lambda p: changed(p, CONFIG, eva_config={"rho": 1}), "eva_config"),
    "a file to read": (lambda p: changed(p, CONFIG, loftq_config={"a": 1}), "loftq_config"),
    "a pattern": (lambda p: changed(p, CONFIG, target_modules="(a+)+$"), "by their names alone"),
    "a pattern of ranks": (lambda p: changed(p, CONFIG, rank_pattern={"(a+)+$": 2}), "by their names alone"),
    "no rank": (lambda p: changed(p, CONFIG, r=0), "whole number"),
    "a large rank": (lambda p: changed(p, CONFIG, r=1 << 40), "whole number"),
    "an odd alpha": (lambda p: changed(p, CONFIG, lora_alpha="x"), "lora_alpha"),
    "another rank": (lambda p: changed(p, CONFIG, r=3), "its rank is 3"),
    "a list": (lambda p: {**p, CONFIG: b"[]"}, "not a JSON object"),
    "deep JSON": (lambda p: {**p, "run.json": b"[" * 100_000}, "not a JSON object"),
    "bytes": (lambda p: {**p, INFO: b"\xff\xfe"}, "not a JSON object"),
    "an odd line": (lambda p: {**p, "metrics.jsonl": b'{"a": 1}\n[]\n'}, "Line 2 of metrics.jsonl"),
    "a long line": (lambda p: {**p, "metrics.jsonl": b'{"a": "' + b"x" * (1 << 21)}, "Line 1 of metrics.jsonl"),
    "no tensor": (lambda p: {**p, WEIGHTS: save({})}, "hold nothing"),
    "cut weights": (lambda p: {**p, WEIGHTS: p[WEIGHTS][:-1]}, "truncated"),
    "more than the header says": (lambda p: {**p, WEIGHTS: p[WEIGHTS] + b"x"}, "longer"),
    "a long header": (lambda p: {**p, WEIGHTS: struct.pack("<Q", 1 << 60) + p[WEIGHTS][8:]}, "header"),
    "no number": (other(Q_A, np.full((RANK, 8), np.nan, np.float32)), "not numbers"),
    "an infinite number": (other(Q_B, np.full((8, RANK), np.inf, np.float16)), "not numbers"),
    "an infinite bfloat16": (bfloat16_infinity, "not numbers"),
    "whole numbers": (other(Q_A, np.ones((RANK, 8), np.int32)), "is I32"),
    "doubles": (other(Q_A, np.ones((RANK, 8), np.float64)), "is F64"),
    "another shape": (other(Q_A, np.ones((RANK, 9), np.float32)), "and its weight 8 x 8"),
    "three dimensions": (other(Q_A, np.ones((RANK, 4, 2), np.float32)), "its rank is 2"),
    "half of a pair": (weights(lambda t: {k: v for k, v in t.items() if k != Q_B}), "is missing"),
    "a layer that is not there": (
        weights(lambda t: {k.replace("q_proj", "o_proj"): v for k, v in t.items()}), "no such layer"
    ),
    "a whole weight": (other("base_model.model.model.layers.0.q_proj.weight", np.ones((8, 8), np.float32)), "no part"),
    "a strange name": (other("../../x", np.ones((2, 2), np.float32)), "no part of a LoRA"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_as_it_should_be_is_refused_in_a_sentence(name: str, model: ModelDir, tmp_path: Path) -> None:
    change, why = BROKEN[name]
    assert why in refused(zipped(change(sound(model)), model), model, tmp_path)


def test_another_job_another_base_and_wrong_hashes(model: ModelDir, tmp_path: Path) -> None:
    parts = sound(model)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    assert "another job" in refused(zipped(parts, model, job="j2"), model, tmp_path)
    assert "another base" in refused(zipped(parts, model, base="0" * 64), model, tmp_path)
    assert "not what its manifest" in refused(zipped(parts, model, hashes | {WEIGHTS: "0" * 64}), model, tmp_path)
    assert "do not agree" in refused(zipped(parts, model, hashes | {"a": "0" * 64}), model, tmp_path)
    assert "does not say" in refused(zipped(parts, model, {"run.json": "x"}), model, tmp_path)
    assert "cannot be read" in refused(zipped(parts, model, more=1), model, tmp_path)


def test_archives_that_are_traps(model: ModelDir, tmp_path: Path) -> None:
    """Links, two files of one name, bombs, long lists of files, encryption, and what is no zip at all."""
    parts, out = sound(model), io.BytesIO(zipped(sound(model), model))
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("report.md")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "link" in refused(out.getvalue(), model, tmp_path)
    out = io.BytesIO(zipped(parts, model))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("run.json", "{}")
    assert "twice" in refused(out.getvalue(), model, tmp_path)
    assert "at most 1 MiB" in refused(zipped({**parts, "run.json": bytes(50 << 20)}, model), model, tmp_path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}", b"")
    assert "this one holds more" in refused(out.getvalue(), model, tmp_path)
    for content in (b"", b"PK", os.urandom(1000), zipped(parts, model)[:-1], zipped(parts, model) + b"x"):
        assert refused(content, model, tmp_path)
    whole = bytearray(zipped(parts, model))
    whole[whole.index(b"PK\1\2") + 8] |= 1
    assert "encrypted" in refused(bytes(whole), model, tmp_path)


@settings(max_examples=many(150), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 1 << 30), count=st.integers(1, 8))
def test_a_damaged_bundle_is_refused_or_is_still_the_same_result(
    seed: int, count: int, model: ModelDir, tmp_path: Path
) -> None:
    """Bytes changed, cut out or doubled anywhere: a sentence, or bit for bit the adapter that was sent."""
    parts, chance = sound(model), random.Random(seed)
    content = bytearray(zipped(parts, model))
    for _ in range(count):
        at = chance.randrange(len(content))
        kind = chance.choice(("flip", "cut", "double"))
        if kind == "flip":
            content[at] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del content[at : at + chance.randrange(1, 40)]
        else:
            content[at:at] = content[at : at + chance.randrange(1, 40)]
    before = set(model.runs.iterdir()) if model.runs.is_dir() else set()
    try:
        run = drop(bytes(content), model, tmp_path)
    except NotAccepted:
        assert set(model.runs.iterdir()) == before
        return
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == parts[WEIGHTS]
