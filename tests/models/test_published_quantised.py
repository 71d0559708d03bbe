"""Models whose files are quantised already: each kind trains and talks, or is refused before a weight is loaded."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GptOssConfig, GptOssForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from llm_installer.core.dequantised import dequantised
from llm_installer.core.errors import InstallerError, ModelError, UsageError
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.quantisation import STORED, stored_as
from llm_installer.core.safetensors import TensorHeader
from llm_installer.core.voice import Silence
from llm_installer.inference.load import load_assistant
from llm_installer.inference.loadable import check_loadable
from llm_installer.install.check import check_model
from llm_installer.install.installer import install
from llm_installer.models.base import load_base
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler
from llm_installer.planning.table import plan_rows
from llm_installer.train_lora import decide, run

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
GIB = 1 << 30
HARDWARE = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)
FACTS = DataFacts(36, 4, "instruct", 20, 22)
KINDS = ("nf4", "fp4", "int8", "fp8", "mxfp4")
SMALL_OSS = {
    "vocab_size": 2048, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
    "max_position_embeddings": 256, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip


def configured(folder: Path, **more: object) -> Path:
    """The folder, with these fields in its config."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **more}), "utf-8")
    return folder


def by_bitsandbytes(settings: BitsAndBytesConfig) -> Callable[[Path, Path], None]:
    def save(plain: Path, folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=settings, device_map={"": "cpu"})
        model.save_pretrained(folder)

    return save


def in_fp8(plain: Path, folder: Path) -> None:
    weights, block = load_file(plain / "model.safetensors"), 16
    for name in [name for name in weights if "_proj" in name]:
        outputs, inputs = weights[name].shape
        blocks = weights[name].float().view(outputs // block, block, inputs // block, block)
        scales = blocks.abs().amax((1, 3)) / 448
        weights[name] = (blocks / scales[:, None, :, None]).view(outputs, inputs).to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scales
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [block, block]}
    shutil.copy(plain / "config.json", folder)
    configured(folder, quantization_config=settings)


def in_mxfp4(plain: Path, folder: Path) -> None:
    torch.manual_seed(0)
    GptOssForCausalLM(GptOssConfig(**SMALL_OSS)).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = weights.pop(name).shape
        weights[f"{name}_blocks"] = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        weights[f"{name}_scales"] = torch.full((experts, outputs, inputs // 32), 120, dtype=torch.uint8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    configured(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})


def four_bits(kind: str, double: bool) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
    )


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "nf4": by_bitsandbytes(four_bits("nf4", double=True)),
    "fp4": by_bitsandbytes(four_bits("fp4", double=False)),
    "int8": by_bitsandbytes(BitsAndBytesConfig(load_in_8bit=True)),  # type: ignore[no-untyped-call]
    "fp8": in_fp8,
    "mxfp4": in_mxfp4,
}


@pytest.fixture(scope="module")
def published(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The random Llama, and a random gpt-oss in mxfp4, as they would be published quantised."""
    found = {}
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    for kind, make in MAKERS.items():
        found[kind] = tmp_path_factory.mktemp(kind)
        make(tiny_llama, found[kind])
        tokenizer.save_pretrained(found[kind])
    return found


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def plan_of(folder: Path, **options: object) -> Plan:
    info = read_model_info(folder)
    return make_plan(Options(data="x", **options), info, find_handler(info), HARDWARE, FACTS, (22, ""))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_model_is_counted_unquantised_and_computes_with_a_gradient(
    published: dict[str, Path], tiny_llama: Path, kind: str
) -> None:
    folder, info = published[kind], read_model_info(published[kind])
    check_loadable(info)
    base = load_base(folder, "float32", "cpu")
    if kind == "mxfp4":
        whole: torch.nn.Module = GptOssForCausalLM(GptOssConfig(**SMALL_OSS))
    else:
        whole = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
        assert info.linears == read_model_info(tiny_llama).linears
    assert info.parameters == sum(p.numel() for p in whole.parameters())
    ids = torch.arange(3, 23)[None]
    inputs = base.get_input_embeddings()(ids).detach().requires_grad_()
    with torch.no_grad():
        base(input_ids=ids)  # an evaluation before the first step must not take the gradient away
    logits = base(inputs_embeds=inputs).logits
    logits[0, -1].max().backward()
    assert inputs.grad is not None and inputs.grad[0, :-1].norm() > 0
    if kind != "mxfp4":
        with torch.no_grad():
            assert (logits - whole(input_ids=ids).logits).norm() < 0.2 * logits.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_says_how_the_base_is_held(published: dict[str, Path], kind: str) -> None:
    stored, plan = read_model_info(published[kind]).stored, plan_of(published[kind])
    assert plan.method.quantised == stored.kept == {"nf4": "nf4", "fp4": "nf4", "int8": "int8"}.get(kind, "")
    row = next(row for row in plan_rows(plan) if row.name == "base weights")
    assert stored.words in row.why and row.flag == ""
    assert Plan.from_json(plan.to_json()) == plan
    found = check_model(str(published[kind]))
    assert f"published in {stored.words}" in found.checks[0].detail
    assert len(found.memory) == 2, "only the way in which it will be held"
    if stored.kept == "nf4":
        assert stored.bytes_each == {"nf4": 0.516, "fp4": 0.5625}[kind], (
            "a scale in float32 for 64 weights, or one in 8 bits"
        )
    adapted = next(each.detail for each in found.checks if each.name == "adapted")
    assert re.fullmatch(r"\d+ layers: \d+ \w+_proj.*", adapted), adapted


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (
            "nf4",
            {"use_8bit": True},
            "--use-8bit asks for a base in 8 bits, and .* are published in bitsandbytes in 4 b",
        ),
        ("int8", {"method": "qlora"}, "--method qlora asks for a base in 4 bits, and .* bitsandbytes in 8 bits"),
        ("fp8", {"method": "qlora"}, "in fp8 and dequantised when they are loaded; leave the option out"),
        ("mxfp4", {"use_8bit": True}, "in mxfp4 and dequantised when they are loaded"),
        ("fp4", {"init_lora_weights": "pissa"}, "--init-lora-weights pissa needs unquantised weights, and"),
        ("int8", {"use_dora": True}, "--use-dora needs the size of every weight"),
    ],
)
def test_a_wish_that_the_weights_cannot_serve_is_refused(
    published: dict[str, Path], kind: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        plan_of(published[kind], **options)


def test_qlora_on_a_base_in_4_bits_is_what_happens_anyway(published: dict[str, Path]) -> None:
    assert plan_of(published["nf4"], method="qlora").method == plan_of(published["nf4"]).method


def test_a_model_in_4_bits_trains_by_default_and_talks(
    published: dict[str, Path], write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    root = install(str(published["nf4"]), say=lambda text: None).root
    write_rows(16)
    options = Options(
        model_path=str(root), data="data.jsonl", tensorboard=False, epochs=2.0, learning_rate=5e-3, skip_test=True
    )
    found = run(options, Silence(), tmp_path)
    assert found and found.result.best_loss < (found.result.base_loss or 0)
    talking = load_assistant(ModelDir.find(str(root)), root / "lora")
    assert "used on" not in talking.adapter
    with pytest.raises(UsageError, match="--use-8bit asks for a base in 8 bits"):
        load_assistant(ModelDir.find(str(root)), None, "int8")


def refused_everywhere(folder: Path, installed: Path, said: str) -> None:
    """`check`, `install` and `train`, a dry run too, refuse the model with the same sentence."""
    (installed / "model" / "config.json").write_bytes((folder / "config.json").read_bytes())
    stories = (
        lambda: check_model(str(folder)),
        lambda: install(str(folder), say=lambda text: None),
        lambda: decide(Options(model_path=str(installed), data="nothing.jsonl"), Silence()),
        lambda: load_assistant(ModelDir.find(str(installed)), None),
    )
    for story in stories:
        with pytest.raises(InstallerError) as caught:
            story()
        assert said in str(caught.value) and "install the model that it was made from" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "is quantised with GPTQ, and such weights cannot",
        ),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "quantised with compressed-tensors"),
        ({"quantization_config": {"quant_method": "fbgemm_fp8"}}, "quantised with FBGEMM in fp8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantised with mxfp4"),
        ({"quantization_config": {"quant_method": "next_year"}}, "quantised with next_year"),
        ({"quantization_config": {}}, "names no method (quant_method is null)"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised with bitsandbytes"),
        ({"quantization": {"bits": 4}, "quantization_config": {"bits": 4}}, "quantised with MLX"),
        ({"compression_config": {"format": "dense"}}, "quantised with compressed-tensors"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(
    model: Path, installed: Path, more: dict[str, object], said: str
) -> None:
    refused_everywhere(configured(model, **more), installed, said)


@pytest.mark.parametrize("method", sorted(set(AUTO_QUANTIZATION_CONFIG_MAPPING) - set(STORED)))
def test_every_method_of_transformers_is_in_the_table_or_refused(method: str) -> None:
    for place in ({}, {"text_config": {"quantization_config": {"quant_method": method}}}):
        config = {"model_type": "llama", **(place or {"quantization_config": {"quant_method": method}})}
        with pytest.raises(ModelError, match="such weights cannot be trained here; install the model"):
            stored_as(config, "org/name")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3))
def test_whatever_a_config_calls_its_method_is_one_sentence(method: object) -> None:
    with pytest.raises(ModelError, match="install the model that it was made from") as caught:
        stored_as({"model_type": "llama", "quantization_config": {"quant_method": method}}, "org/name")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda weights, name: weights.update({f"{name}_scale": weights.pop(f"{name}_scale_inv")}),
            "has no scale beside",
        ),
        (lambda weights, name: weights.update({f"{name}_scale_inv": torch.ones(5, 2)}), "not made of complete blocks"),
    ],
)
def test_fp8_that_transformers_would_read_wrongly_is_refused(
    published: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, torch.Tensor], str], object], said: str
) -> None:
    folder = Path(shutil.copytree(published["fp8"], tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    change(weights, "model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said):
        check_model(str(folder))


@pytest.mark.parametrize("kind", ["nf4", "fp8", "int8"])
def test_quantised_weights_without_a_word_in_the_config_are_refused(
    published: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder = Path(shutil.copytree(published[kind], tmp_path / "model"))
    configured(folder, quantization_config=None)
    with pytest.raises(ModelError, match=r"quantised with a method that its config\.json does not name"):
        check_model(str(folder))


def header(dtype: str, *shape: int, size: int = 1) -> TensorHeader:
    return TensorHeader(dtype, shape, 0, math.prod(shape) * size)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 16, 32]), st.integers(1, 5))
def test_any_shape_is_counted_unquantised(rows: int, columns: int, block: int, experts: int) -> None:
    """As `fp8` with blocks, and as experts in `mxfp4`: scales are not parameters, and two weights share a byte."""
    norm = {"norm.weight": header("BF16", 7, size=2)}
    name = "model.layers.0.mlp.up_proj.weight"
    shape = (rows * block, columns * block)
    fp8 = {name: header("F8_E4M3", *shape), f"{name}_scale_inv": header("F32", rows, columns, size=4), **norm}
    found = dequantised(Path(), fp8, STORED["fp8"], "it")
    assert {key: each.shape for key, each in found.items()} == {name: shape, "norm.weight": (7,)}
    fused = "model.layers.0.mlp.experts.down_proj"
    packed = {f"{fused}_blocks": header("U8", experts, rows, columns, 16)}
    packed |= {f"{fused}_scales": header("U8", experts, rows, columns), **norm}
    found = dequantised(Path(), packed, STORED["mxfp4"], "it")
    assert {key: each.shape for key, each in found.items()} == {
        fused: (experts, 32 * columns, rows),
        "norm.weight": (7,),
    }


def test_a_model_on_a_hub_is_counted_from_its_headers_alone(published: dict[str, Path], tmp_path: Path) -> None:
    """`check` lays out sparse files: the headers are there, and no weight, nor what bitsandbytes says of its shape."""
    folder = Path(shutil.copytree(published["nf4"], tmp_path / "model"))
    file = folder / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    file.write_bytes(content[:header] + bytes(len(content) - header))
    info = read_model_info(folder)
    check_loadable(info)
    assert info.parameters == read_model_info(published["nf4"]).parameters
    assert plan_of(folder).predicted_peak_bytes > 0
