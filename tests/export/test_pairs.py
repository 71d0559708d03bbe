"""An adapter alone, as a LoRA in GGUF and for mlx-lm: read back, each product is what PEFT computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export import adapter
from llm_installer.export.gguf.file import read_model
from llm_installer.export.gguf.read import read_values
from llm_installer.export.kinds import ExportRequest
from llm_installer.export.pairs import mlx
from llm_installer.export.pairs.forms import form_of
from llm_installer.export.pairs.pairs import Pair, padded
from llm_installer.export.pairs.prove import _layers, apart
from llm_installer.export.pairs.receipt import PAIR_LIMITS
from llm_installer.export.pairs.story import export_pairs, read_pairs
from llm_installer.export.subject import subject_of
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.base import as_stored
from tests.export.gguf_models import make
from tests.export.made_models import make_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
PATTERNS = {"use_rslora": True, "rank_pattern": {"q_proj": 7, "c_proj": 2}, "alpha_pattern": {"v_proj": 3, "c_fc": 0}}
CASES: dict[str, dict[str, object]] = {
    "llama": {"target_modules": "all-linear", **PATTERNS},
    "qwen3": {"target_modules": ["q_proj", "k_proj", "down_proj"], "layers_to_transform": [1]},
    "gemma2": {"target_modules": "all-linear", "lora_alpha": 0},
    "phi3": {"target_modules": ["qkv_proj", "gate_up_proj"], "lora_alpha": 5},
    "gpt2": {"target_modules": ["c_attn", "c_proj", "c_fc"], **PATTERNS},
    "neox": {"target_modules": ["query_key_value", "dense_h_to_4h", "embed_out"], "use_rslora": True},
}


@cache
def adapted(kind: str, base: Path) -> PeftModel:
    """A random model with a random adapter, as PEFT computes it."""
    model = make(kind, base / "model")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(base / "model")
    torch.manual_seed(1)
    settings_ = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | CASES[kind]
    found = get_peft_model(model, LoraConfig(**settings_))  # type: ignore[arg-type]
    for name, weight in found.named_parameters():
        if ".lora_" in name:
            weight.data = torch.randn_like(weight) * 0.1
    found.save_pretrained(str(base / "lora"))
    return found.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[ModelDir, PeftModel]]:
    home = tmp_path_factory.mktemp("made")
    return lambda kind: (ModelDir(home / kind), adapted(kind, home / kind))


def read(folder: ModelDir, to: str) -> dict[str, Pair]:
    subject = subject_of(folder, ExportRequest(to=to, lora=str(folder.root / "lora")))
    return read_pairs(subject, form_of(to), Silence())


def off(
    folder: ModelDir, model: PeftModel, to: str, tmp_path: Path, found: dict[str, Pair], kind: str = "f32"
) -> tuple[float, str]:
    """How far what was written and read back is from PEFT, and what does not fit at all."""
    info, form = read_model_info(folder.weights, folder.root.name), form_of(to)
    form.write(info, found, tmp_path / "out", kind)
    largest, _, wrong = apart(dict(_layers(model)), form.read(info, tmp_path / "out"))
    return largest, wrong


@pytest.mark.parametrize("kind", CASES)
def test_a_lora_in_gguf_is_the_adapter(
    kind: str, made: Callable[[str], tuple[ModelDir, PeftModel]], tmp_path: Path
) -> None:
    folder, model = made(kind)
    largest, wrong = off(folder, model, "gguf-lora", tmp_path, read(folder, "gguf-lora"))
    assert largest <= PAIR_LIMITS["f32"] and not wrong
    values = read_values(tmp_path / "out")
    assert values["general.type"] == "adapter" and values["adapter.type"] == "lora"
    assert values["general.architecture"] == read_model(read_model_info(folder.weights, kind)).family.arch


def test_in_f16_it_is_nearly_the_adapter(made: Callable[[str], tuple[ModelDir, PeftModel]], tmp_path: Path) -> None:
    folder, model = made("llama")
    largest, wrong = off(folder, model, "gguf-lora", tmp_path, read(folder, "gguf-lora"), "f16")
    assert 1e-5 < largest <= PAIR_LIMITS["f16"] and not wrong


def unpaired(pair: Pair) -> Pair:
    """B as llama.cpp lays out the rows of queries, turned back."""
    return replace(pair, b=pair.b.reshape(8, -1, 2, pair.rank).transpose(1, 2).reshape(pair.b.shape))


@pytest.mark.parametrize(
    ("kind", "part", "spoil"),
    [
        ("gpt2", "attn.c_proj", lambda pair: Pair(pair.b.T.contiguous(), pair.a.T.contiguous())),
        ("gpt2", "c_attn", lambda pair: replace(pair, b=pair.b * 2)),
        ("llama", "q_proj", unpaired),
        ("llama", "v_proj", lambda pair: replace(pair, b=pair.b / 2)),
        ("neox", "query_key_value", lambda pair: replace(pair, b=pair.b.roll(1, 0))),
    ],
)
def test_another_layout_or_scale_is_found(
    kind: str,
    part: str,
    spoil: Callable[[Pair], Pair],
    made: Callable[[str], tuple[ModelDir, PeftModel]],
    tmp_path: Path,
) -> None:
    """Among them GPT-2's square c_proj with the pair transposed as the weight is, where every shape fits."""
    folder, model = made(kind)
    found = {name: spoil(pair) if part in name else pair for name, pair in read(folder, "gguf-lora").items()}
    largest, wrong = off(folder, model, "gguf-lora", tmp_path, found)
    assert largest > 0.1 and not wrong


def test_a_lost_or_strange_weight_is_found(made: Callable[[str], tuple[ModelDir, PeftModel]], tmp_path: Path) -> None:
    folder, model = made("llama")
    found = read(folder, "gguf-lora")
    lost = found.pop(min(found))
    assert off(folder, model, "gguf-lora", tmp_path, found)[1].endswith("is missing")
    found["model.embed_tokens.weight"] = lost
    (tmp_path / "out").unlink()
    assert off(folder, model, "gguf-lora", tmp_path, found)[1]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "phi3"])
def test_mlx_gets_turned_matrices_of_one_rank_and_scale(
    kind: str, made: Callable[[str], tuple[ModelDir, PeftModel]], tmp_path: Path
) -> None:
    """Rebuilt with numpy as mlx-lm does: scale * (x @ a) @ b."""
    folder, model = made(kind)
    largest, wrong = off(folder, model, "mlx", tmp_path, read(folder, "mlx"))
    assert largest <= PAIR_LIMITS["f32"] and not wrong
    config = json.loads((tmp_path / "out" / mlx.CONFIG).read_text("utf-8"))
    assert config["fine_tune_type"] == "lora" and config["num_layers"] == model.config.num_hidden_layers
    told, stored = config["lora_parameters"], load_file(tmp_path / "out" / mlx.WEIGHTS)
    for name, layer in _layers(model):
        a, b = (stored[f"{name.removesuffix('.weight')}.lora_{half}"].numpy() for half in "ab")
        assert a.shape[1] == b.shape[0] == told["rank"] == max(layer.r["default"] for _, layer in _layers(model))
        wanted = layer.get_delta_weight("default").detach().numpy().T
        assert np.allclose(told["scale"] * (a @ b), wanted, atol=1e-6)
    inside = {name.removesuffix(".weight").split(".", 3)[3] for name, _ in _layers(model) if "lm_head" not in name}
    assert set(told["keys"]) - {"lm_head"} == inside


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(0, 99))
def test_empty_ranks_change_no_product(rows: int, columns: int, rank: int, more: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pair = Pair(torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator))
    whole = padded(pair, rank + more)
    assert whole.rank == rank + more
    assert torch.allclose(whole.b @ whole.a, pair.b @ pair.a, atol=1e-6)


@pytest.mark.parametrize(("alpha", "stored"), [(16.0, "16"), (16, "16"), (7.5, "7.5")])
def test_a_whole_alpha_is_stored_as_a_whole_number(alpha: float, stored: str, tmp_path: Path) -> None:
    """Some programs that read adapter_config.json take no 16.0."""
    LoraConfig(lora_alpha=as_stored(alpha)).save_pretrained(str(tmp_path))  # type: ignore[arg-type]
    assert f'"lora_alpha": {stored},' in (tmp_path / "adapter_config.json").read_text("utf-8")


Change = Callable[[Path], None]


def with_tensor(name: str, *shape: int) -> Change:
    """Put one more tensor into an adapter's file."""

    def change(lora: Path) -> None:
        file = lora / "adapter_model.safetensors"
        save_file(load_file(file) | {f"base_model.model.{name}": torch.zeros(*shape)}, file)

    return change


def with_setting(**changed: object) -> Change:
    """Change the adapter's config."""

    def change(lora: Path) -> None:
        file = lora / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changed), "utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_setting(use_dora=True), "has DoRA"),
        (with_setting(bias="all"), "has trained biases"),
        (with_setting(lora_bias=True), "has trained biases"),
        (with_setting(modules_to_save=["lm_head"]), r"modules_to_save\)"),
        (with_setting(trainable_token_indices={"embed_tokens": [2]}), "trained tokens, such as one that ends answers"),
        (with_setting(target_parameters=["mlp.experts.gate_up_proj"]), "a LoRA on experts"),
        (with_tensor("model.embed_tokens.token_adapter.trainable_tokens_delta", 1, 48), "trained tokens"),
        (with_tensor("model.layers.0.self_attn.q_proj.bias", 48), "trained biases"),
        (with_tensor("model.norm.weight", 48), "more than LoRA"),
    ],
)
def test_what_two_matrices_cannot_say_is_refused_before_a_weight_is_read(
    change: Change,
    what: str,
    made: Callable[[str], tuple[ModelDir, PeftModel]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = made("llama")
    lora = tmp_path / "lora"
    lora.mkdir()
    for file in (folder.root / "lora").iterdir():
        (lora / file.name).write_bytes(file.read_bytes())
    change(lora)
    monkeypatch.setattr(adapter, "load_peft_weights", None)
    with pytest.raises(AdapterError, match=rf"{what}.*merge .* --lora .*, and export the model that it makes"):
        export_pairs(folder, ExportRequest(to="gguf-lora", lora=str(lora)), Silence())
    assert not list(folder.root.glob("*.gguf"))


def test_an_output_layer_that_is_the_embedding_is_refused(tmp_path: Path) -> None:
    model: PreTrainedModel = make("qwen3", tmp_path / "model")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(tmp_path / "model")
    found = get_peft_model(model, LoraConfig(target_modules=["lm_head"], task_type="CAUSAL_LM"))
    found.save_pretrained(str(tmp_path / "lora"))
    for to in ("gguf-lora", "mlx"):
        with pytest.raises(AdapterError, match="an output layer that is also the embedding"):
            export_pairs(ModelDir(tmp_path), ExportRequest(to=to), Silence())


def test_mlx_takes_dora_and_refuses_other_names(
    made: Callable[[str], tuple[ModelDir, PeftModel]], tmp_path: Path
) -> None:
    folder, _ = made("gpt2")
    with pytest.raises(ModelError, match="of the family gpt2, and only for these mlx-lm has the same names"):
        export_pairs(folder, ExportRequest(to="mlx", lora=str(folder.root / "lora")), Silence())
    folder, _ = made("llama")
    lora = make_adapter(folder, tmp_path / "lora", target_modules=["q_proj", "o_proj"], use_dora=True)
    found = read_pairs(subject_of(folder, ExportRequest(lora=str(lora))), form_of("mlx"), Silence())
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder.weights), str(lora))
    assert off(folder, model, "mlx", tmp_path, found)[0] <= 1e-5  # lengths are compared, too
    assert json.loads((tmp_path / "out" / mlx.CONFIG).read_text("utf-8"))["fine_tune_type"] == "dora"


@pytest.mark.slow
def test_the_whole_story(base: Callable[[str], ModelDir], home: Path) -> None:
    folder = base("gpt2")
    lora = make_adapter(folder, home / "lora", target_modules=["c_attn", "c_proj"], use_rslora=True)
    request = ExportRequest(to="gguf-lora", lora=str(lora), out=str(home / "x.gguf"))
    told = json.loads(export_pairs(folder, request, Silence()).receipt_file.read_text("utf-8"))
    assert told["kind"] == "gguf-lora" and told["modules"] == 6 and told["largest"] <= told["allowed"]
    assert told["tuned"]["kl"] < 1e-6 < told["base"]["kl"]
