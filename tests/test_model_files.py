"""Every field of every file of a model or adapter, replaced by wrong values: our own errors, one sentence each, soon.

LLM_FUZZ=1 tries all of them in all ways, which takes some minutes; the default is a sample, drawn for each version.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llm_installer.core.adapter_info import read_adapter_info
from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.examples import Message
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.version import __version__
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.inference.load import load_assistant
from llm_installer.inference.loadable import check_loadable
from llm_installer.models.base import load_base
from llm_installer.models.proof import refuse_broken

VALUES: tuple[object, ...] = (
    None, -1, 0, 10**12, 1.5, "x", "", [], {}, True, [[1, [2]], ["a"]], "huge " * 20_000
)  # fmt: skip
ALL = bool(os.environ.get("LLM_FUZZ"))
SECONDS = 5.0
"""Of the processor: other processes of the machine take none of them."""


def places(content: object, depth: int) -> Iterator[tuple[str | int, ...]]:
    """Every field of a JSON value, and the fields in it down to `depth`; of a long list or object the first ones."""
    if not isinstance(content, (dict, list)) or not depth:
        return
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    for key in keys[: 40 if depth > 1 else 3]:
        yield (key,)
        yield from ((key, *more) for more in places(content[key], depth - 1))  # type: ignore[index]


def changed(content: object, place: tuple[str | int, ...], value: object) -> object:
    """A copy of `content` with another value at one place."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def cases(file: Path, depth: int) -> list[tuple[tuple[str | int, ...], object]]:
    content = json.loads(file.read_text("utf-8"))
    return [(place, value) for place in places(content, depth) for value in VALUES]


def tried(use: Callable[[], object], what: object) -> bool:
    """Whether it went well; else it was refused, in one sentence of ours."""
    start = time.process_time()
    try:
        use()
        return True
    except InstallerError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, what
        return False
    finally:
        assert time.process_time() - start < SECONDS, what


def sample(every: list[tuple[tuple[str | int, ...], object]], count: int) -> list[tuple[tuple[str | int, ...], object]]:
    return every if ALL else random.Random(__version__).sample(every, min(count, len(every)))


def answer_something(folder: Path) -> None:
    """What an install, a training and a chat do with the files of a model."""
    info = read_model_info(folder)
    check_loadable(info)
    encoder = load_encoder(info)
    ids = encoder.prompt_ids([Message("user", "Hello")])
    model = load_base(folder, "float32", "cpu")
    refuse_broken(model, folder)
    with torch.inference_mode():
        model(input_ids=torch.tensor([ids]))


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    """In two shards, so that it has an index."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    whole = AutoModelForCausalLM.from_pretrained(tiny_llama)
    whole.generation_config = GenerationConfig(eos_token_id=1, temperature=0.5, do_sample=True, top_p=0.5)
    whole.save_pretrained(folder, max_shard_size="30KB")
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


FILES = {
    "config.json": (2, 25), "generation_config.json": (2, 8), "model.safetensors.index.json": (2, 8),
    "tokenizer_config.json": (3, 12), "tokenizer.json": (3, 15),
}  # fmt: skip
"""Depth of the fields, and how many cases are in the sample."""


@pytest.mark.parametrize("name", FILES)
def test_wrong_values_in_a_model_folder(name: str, model: Path) -> None:
    depth, count = FILES[name]
    answer_something(model)
    file = model / name
    before = file.read_text("utf-8")
    for place, value in sample(cases(file, depth), count):
        file.write_text(json.dumps(changed(json.loads(before), place, value)), "utf-8")
        tried(lambda: answer_something(model), (name, place, value))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_every_wrong_value_through_the_readers(name: str, model: Path) -> None:
    file = model / name
    before = file.read_text("utf-8")
    for place, value in cases(file, 2):
        file.write_text(json.dumps(changed(json.loads(before), place, value)), "utf-8")
        tried(lambda: read_model_info(model), (name, place, value))


def test_fields_that_transformers_knows_and_the_file_lacks(model: Path) -> None:
    """Of num_labels it would make a list of a thousand million names."""
    from transformers import LlamaConfig

    file = model / "config.json"
    before = json.loads(file.read_text("utf-8"))
    lacking = [name for name in LlamaConfig().to_dict() if name not in before]
    for name in [*lacking, "num_labels", "num_beams", "num_nextn_predict_layers"]:
        for value in (10**9, [0, 0, 0], {"0": 10**9}):
            file.write_text(json.dumps({**before, name: value}), "utf-8")
            tried(lambda: check_loadable(read_model_info(model)), (name, value))
    file.write_text(json.dumps({**before, "num_labels": 10**9}), "utf-8")
    with pytest.raises(ModelError, match=r"num_labels in .* must be at most 1,000,000, not 1000000000"):
        read_model_info(model)


@pytest.mark.parametrize("name", ["moe_intermediate_size", "kv_lora_rank", "n_group", "mamba_chunk_size"])
def test_a_size_or_a_number_of_something_is_never_negative(name: str, model: Path) -> None:
    """Also where only one family knows the field: its code would fail in the middle of a step."""
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), name: -8}), "utf-8")
    with pytest.raises(ModelError, match=rf"{name} in .* must be at least 0, not -8"):
        read_model_info(model)


@pytest.mark.parametrize("name", ["chunk_size", "sliding_window_size"])
def test_minus_one_may_mean_none(name: str, model: Path) -> None:
    """As in Phi-4's audio_config."""
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "audio_config": {name: -1}}), "utf-8")
    read_model_info(model)


def test_what_cannot_be_made_of_a_config_is_one_sentence(model: Path) -> None:
    """torch raises a RuntimeError where positions have a negative share of a head."""
    file = model / "config.json"
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": -1}
    config = {**json.loads(file.read_text("utf-8")), "model_type": "phi3", "rope_parameters": rope}
    file.write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=r"The model in .* cannot be loaded: RuntimeError: "):
        answer_something(model)


ADAPTER_FILES = {"adapter_config.json": 20, "adapter_info.json": 5}


@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_wrong_values_in_an_adapter(name: str, installed: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lora, folder = tmp_path / "lora", ModelDir(installed)
    made = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, rank_pattern={}, alpha_pattern={})
    get_peft_model(load_base(folder.weights, "float32", "cpu"), made).save_pretrained(lora)
    about = {"style": "chat", "quantised": None, "best_step": 3, "base_loss": 2.0, "best_loss": 1.0, "base_model": {}}
    (lora / "adapter_info.json").write_text(json.dumps(about), "utf-8")
    load_assistant(folder, lora)
    before = (lora / name).read_text("utf-8")
    every = cases(lora / name, 2)
    for place, value in every:
        (lora / name).write_text(json.dumps(changed(json.loads(before), place, value)), "utf-8")
        tried(lambda: read_adapter_info(lora, folder), (name, place, value))
    for place, value in sample(every, ADAPTER_FILES[name]):
        (lora / name).write_text(json.dumps(changed(json.loads(before), place, value)), "utf-8")
        tried(lambda: load_assistant(folder, lora), (name, place, value))


HEADERS: dict[str, Callable[[dict[str, dict[str, object]], str], object]] = {
    "overlapping": lambda h, n: h[n].update(data_offsets=[0, 4]),
    "beyond the end": lambda h, n: h[n].update(data_offsets=[10**12, 10**12 + 128]),
    "negative": lambda h, n: h[n].update(data_offsets=[-128, 0]),
    "backwards": lambda h, n: h[n].update(data_offsets=[128, 0]),
    "a huge shape": lambda h, n: h[n].update(shape=[10**12, 10**12]),
    "another dtype": lambda h, n: h[n].update(dtype="F64"),
    "an unknown dtype": lambda h, n: h[n].update(dtype="F7"),
    "a missing field": lambda h, n: h[n].pop("shape"),
    "no object": lambda h, n: h.update({n: 7}),  # type: ignore[dict-item]
    "one tensor less": lambda h, n: h.pop(n),
}


@pytest.mark.parametrize("how", HEADERS)
def test_a_lying_header_is_refused_by_its_tensor(how: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    HEADERS[how](header, "model.norm.weight")
    body = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(body)) + body + content[8 + length :])
    assert not tried(lambda: read_model_info(folder), how)
    with pytest.raises(InstallerError, match=r"model.safetensors is (damaged \(|truncated)"):
        read_model_info(folder)


@pytest.mark.parametrize("length", [0, 1, 7, 100_000_001, 1 << 40, (1 << 64) - 1])
def test_a_lying_length_of_the_header(length: int, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", length))
    with pytest.raises(InstallerError, match="is damaged"):
        read_model_info(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_known_as_one(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", "utf-8")
    with pytest.raises(InstallerError, match=r"git lfs pull"):
        answer_something(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(name: str, model: Path) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    assert tried(lambda: answer_something(model), name) is (name == "generation_config.json")


def cut(file: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(weights, file)
    file.write_bytes(file.read_bytes()[:-200])


BINS: dict[str, Callable[[Path, dict[str, torch.Tensor]], object]] = {
    "empty": lambda file, weights: file.write_bytes(b""),
    "text": lambda file, weights: file.write_bytes(b"garbage" * 99),
    "a zip that is none": lambda file, weights: file.write_bytes(b"PK\x03\x04" + bytes(999)),
    "a zip of something else": lambda file, weights: zipfile.ZipFile(file, "w").writestr("a", "b"),
    "cut": cut,
    "a list": lambda file, weights: torch.save([1, 2], file),
    "nothing": lambda file, weights: torch.save(None, file),
    "numbers": lambda file, weights: torch.save(dict.fromkeys(weights, 5), file),
    "numbered": lambda file, weights: torch.save(dict(enumerate(weights.values())), file),
    "sparse": lambda file, weights: torch.save({n: w.to_sparse() for n, w in weights.items()}, file),
    "without content": lambda file, weights: torch.save({n: w.to("meta") for n, w in weights.items()}, file),
}


@pytest.mark.parametrize("how", BINS)
def test_a_damaged_bin_file_is_one_sentence(how: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    BINS[how](folder / "pytorch_model.bin", weights)
    assert not tried(lambda: answer_something(folder), how)


@pytest.mark.parametrize("settings", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_plain_weights_that_are_called_quantised_are_refused(settings: dict[str, object], model: Path) -> None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    settings = {"quantization_config": {"quant_method": "bitsandbytes", **settings}}
    (model / "config.json").write_text(json.dumps({**config, **settings}), "utf-8")
    with pytest.raises(
        ModelError, match=r"says bitsandbytes in . bits, and none of its tensors is\); install the model"
    ):
        read_model_info(model)


def test_a_pad_token_beyond_the_vocabulary_is_one_sentence(model: Path) -> None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "pad_token_id": 10**6}), "utf-8")
    assert not tried(lambda: answer_something(model), "pad_token_id")


@pytest.mark.parametrize("name", ["LlamaTokenizer", "Qwen2Tokenizer", "GPT2Tokenizer"])
def test_a_tokenizer_without_its_vocabulary_is_refused(name: str, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.model").touch()
    config = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": name}), "utf-8")
    assert not tried(lambda: answer_something(model), name)


@pytest.mark.parametrize("name", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("kind", ["flash_attention_2", "flash_attention_3"])
def test_an_attention_that_is_not_here_is_replaced(name: str, kind: str, model: Path) -> None:
    """Older versions of transformers wrote theirs into config.json, and their packages need a GPU."""
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), name: kind}), "utf-8")
    assert tried(lambda: answer_something(model), kind)


def test_a_tokenizer_that_cannot_read_every_character_is_refused(model: Path) -> None:
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "tokenizer_class": "BertTokenizer"}), "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer in .* its vocabulary has no \[UNK\], which"):
        answer_something(model)


def test_hundreds_of_thousands_of_tokens_beside_the_vocabulary_are_refused(model: Path) -> None:
    """It would take minutes to add them. Models that speak have some 65,000."""
    file = model / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    one = content["added_tokens"][0]
    content["added_tokens"] += [{**one, "id": 5000 + n, "content": f"<z{n}>"} for n in range(200_000)]
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer.json has 200,\d\d\d tokens beside its vocabulary"):
        answer_something(model)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x\0.bin"])
def test_an_index_names_only_files_beside_it(shard: str, model: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": shard}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(InstallerError, match="is not the name of a weight file beside it"):
        read_model_info(model)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "\ufeff{}", "{} {}", "NaN", '{"a": 1e', "\0"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_json(name: str, text: str, model: Path) -> None:
    (model / name).write_text(text, "utf-8")
    assert not tried(lambda: answer_something(model), name)
