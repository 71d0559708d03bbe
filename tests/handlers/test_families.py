"""Every model_type that a handler names, as a random two-layer model: read, trained, saved, loaded again, packed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llm_installer.core.handler import ALL_LINEAR, Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.models import base
from llm_installer.models.peft_names import names_as_given
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.registry import all_handlers, find_handler

# peft 0.21 asks transformers 5.23 for a name that it is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

VOCAB, HIDDEN, INNER, LAYERS, HEADS, POSITIONS, WINDOW = 128, 32, 64, 2, 4, 64, 4
DOCUMENTS = (7, 12, 5, 9)
CPU = Hardware("cpu", "CPU", 1, 20 * GIB, 24 * GIB, True, 2)
FACTS = DataFacts(rows=400, validation_rows=40, task="instruct", mean_length=50, longest=60)

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {**IDS, "vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
ROTARY = {**SIZES, "intermediate_size": INNER, "max_position_embeddings": POSITIONS}
GROUPED = {**ROTARY, "num_key_value_heads": 2}
# A head_dim that is not hidden / heads, as in the real models of these families.
WIDE = {**GROUPED, "head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GEMMA3 = {**WIDE, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
LLAMA4 = {
    **WIDE,
    "intermediate_size_mlp": INNER,
    "num_local_experts": 2,
    "interleave_moe_layer_step": 2,
    "attention_chunk_size": WINDOW,
    "no_rope_layers": [1, 0],
}
LINEAR_ATTENTION = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
TOWER = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
PIXELS = {**TOWER, "image_size": 28, "patch_size": 14}
IMAGE_IDS = {"image_token_index": 127, "boi_token_index": 125, "eoi_token_index": 126}
GPT2 = {**IDS, "vocab_size": VOCAB, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}
FALCON = {**SIZES, "max_position_embeddings": POSITIONS}

# model_type, or model_type/variant where one model_type covers several architectures.
CONFIGS: dict[str, Mapping[str, object]] = {
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": WINDOW},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": GROUPED,
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": WIDE,
    "qwen3_moe": {**WIDE, **EXPERTS},
    "gemma": WIDE,
    "gemma2": {**WIDE, "sliding_window": WINDOW},
    "gemma3_text": GEMMA3,
    "gemma3": {"text_config": GEMMA3, "vision_config": PIXELS, "mm_tokens_per_image": 4, **IMAGE_IDS},
    "llama4_text": LLAMA4,
    "llama4": {
        "text_config": LLAMA4,
        "vision_config": {**PIXELS, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
        **IMAGE_IDS,
    },
    "phi": GROUPED,
    "phi3": GROUPED,
    "gpt2": GPT2,
    "gpt_neox": ROTARY,
    "smollm3": {**GROUPED, "no_rope_layers": [1, 0]},
    "falcon": FALCON,
    "falcon/40b": {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": INNER},
    "falcon/alibi": {**FALCON, "alibi": True, "multi_query": False},
    "bloom": {**IDS, "vocab_size": VOCAB, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS},
    "opt": {**SIZES, "ffn_dim": INNER, "max_position_embeddings": POSITIONS},
    "opt/projected": {**SIZES, "ffn_dim": INNER, "max_position_embeddings": POSITIONS, "word_embed_proj_dim": 16},
}
# What the model really has, where it is not (2 key heads, head_dim 8, 64 inner, 64 positions).
SPECIAL: dict[str, dict[str, int]] = {
    **{name: {"head_dim": 16} for name in ("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gemma3")},
    **{name: {"head_dim": 16} for name in ("llama4_text", "llama4")},
    "gpt2": {"kv_heads": 4, "intermediate_size": 128},
    "gpt_neox": {"kv_heads": 4},
    "falcon": {"kv_heads": 1, "intermediate_size": 128},
    "falcon/alibi": {"kv_heads": 4, "intermediate_size": 128},
    "bloom": {"kv_heads": 4, "intermediate_size": 128, "max_positions": 0},
    "opt": {"kv_heads": 4},
    "opt/projected": {"kv_heads": 4},
}


@dataclass(frozen=True)
class Family:
    """One tiny model on disk, and what the project says about it."""

    case: str
    folder: Path
    info: ModelInfo
    handler: Handler

    def load(self) -> PreTrainedModel:
        auto = AutoModelForImageTextToText if self.info.vision else AutoModelForCausalLM
        model: PreTrainedModel = auto.from_pretrained(self.folder, dtype=torch.float32)
        return model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices of this size only lose by being shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def no_user_handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module", params=CONFIGS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, no_user_handlers: None) -> Family:
    config = AutoConfig.for_model(request.param.partition("/")[0], **CONFIGS[request.param])
    folder = tmp_path_factory.mktemp("model")
    save_random(config, folder)
    info = read_model_info(folder)
    return Family(request.param, folder, info, find_handler(info))


def save_random(config: object, folder: Path) -> None:
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        # At the usual 0.02 attention is all but uniform, and a leak between documents hardly shows.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    model.save_pretrained(folder)


def tokens(length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, 120, (1, length), generator=torch.Generator().manual_seed(seed))


def linear_names(model: torch.nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))]


def decoder_name(model: PreTrainedModel) -> str:
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    names: dict[torch.nn.Module, str] = {module: name for name, module in model.named_modules()}
    return names[decoder]


def adapted(model: PreTrainedModel, family: Family) -> PeftModel:
    """The model with the LoRA that a run gives it."""
    options = Options(data="x", lora_r=4, lora_alpha=8, seed=0)
    return base.adapted(model, make_plan(options, family.info, family.handler, CPU, FACTS, (64, "test")))


def lora_layers(model: PeftModel) -> set[str]:
    end = ".lora_A.default"
    names = (name.removeprefix("base_model.model.") for name, _ in model.named_modules())
    return {name.removesuffix(end) for name in names if name.endswith(end)}


def test_every_model_type_of_every_handler_is_tried() -> None:
    named = [name for handler in all_handlers() for name in handler.model_types]
    assert sorted(named) == sorted({case.partition("/")[0] for case in CONFIGS})


def test_the_handler_is_found_by_model_type(family: Family) -> None:
    assert family.info.model_type == family.case.partition("/")[0]
    assert family.info.model_type in family.handler.model_types
    assert family.handler.source == "built-in"
    assert family.handler.vision or not family.info.vision


def test_config_and_headers_are_read_right(family: Family) -> None:
    usual = {"kv_heads": 2, "head_dim": 8, "intermediate_size": INNER, "max_positions": POSITIONS}
    fixed = {"vocab_size": VOCAB, "hidden_size": HIDDEN, "layers": LAYERS, "heads": HEADS}
    expected = {**usual, **fixed, **SPECIAL.get(family.case, {})}
    assert {name: getattr(family.info, name) for name in expected} == expected
    assert family.info.parameters == sum(parameter.numel() for parameter in family.load().parameters())
    assert family.info.dtype == "float32"


def test_one_step_trains_every_adapter_and_survives_the_disk(family: Family, tmp_path: Path) -> None:
    ids = tokens(12)
    model = adapted(family.load(), family).train()
    before = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    assert before and all("lora_" in name for name in before)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=0.01)
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    still = [n for n, value in model.named_parameters() if "lora_B" in n and torch.equal(value, before[n])]
    assert still == []

    model.eval().save_pretrained(str(tmp_path))
    with names_as_given():
        again = PeftModel.from_pretrained(family.load(), str(tmp_path)).eval()
    with torch.no_grad():
        trained, loaded = model(input_ids=ids).logits, again(input_ids=ids).logits
        untrained = family.load()(input_ids=ids).logits
    assert (trained - loaded).abs().max() < 1e-5
    assert (trained - untrained).abs().max() > 1e-3


def test_every_layer_of_the_decoder_is_adapted_and_nothing_else(family: Family) -> None:
    """Neither a vision tower, whose layers have the same names, nor the output, nor what decides among experts."""
    model = family.load()
    inside = decoder_name(model) + "." if family.info.vision else ""
    names = {name for name in linear_names(model) if name.startswith(inside)}
    left = {name for name in names if re.search(r"(^|\.)(lm_head|embed_out|gate|router|shared_expert_gate)$", name)}
    assert lora_layers(adapted(model, family)) == names - left


def test_packing_is_allowed_exactly_where_documents_stay_apart(family: Family) -> None:
    assert family.handler.packing == (leak(family.load()) < 1e-5)


def leak(model: PreTrainedModel) -> float:
    """How far the logits of a document move when others share its row, told apart by position_ids alone."""
    documents = [tokens(length, seed) for seed, length in enumerate(DOCUMENTS)]
    positions = torch.cat([torch.arange(length) for length in DOCUMENTS])[None]
    with torch.no_grad():
        alone = [model(input_ids=document, use_cache=False).logits for document in documents]
        row = model(input_ids=torch.cat(documents, 1), position_ids=positions, use_cache=False).logits
    packed = row.split(DOCUMENTS, dim=1)
    return max(float((a - b).abs().max()) for a, b in zip(alone, packed, strict=True))


@pytest.mark.parametrize(
    ("model_type", "config", "apart"),
    [
        ("stablelm", GROUPED, True),
        ("gpt_oss", {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_scaling": None}, False),
        ("qwen3_5_text", {**WIDE, **LINEAR_ATTENTION}, False),
    ],
)
def test_the_generic_handler_serves_the_rest_and_never_packs(
    model_type: str, config: Mapping[str, object], apart: bool, tmp_path: Path
) -> None:
    save_random(AutoConfig.for_model(model_type, **config), tmp_path)
    info = read_model_info(tmp_path)
    family = Family(model_type, tmp_path, info, find_handler(info))
    assert (family.handler.name, family.handler.target_modules, family.handler.packing) == (
        "generic",
        ALL_LINEAR,
        False,
    )
    model = family.load()
    assert (leak(model) < 1e-5) == apart
    names = [name for name in linear_names(model) if name != "lm_head"]
    assert lora_layers(adapted(model, family)) == set(names)
