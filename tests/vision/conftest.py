"""Tiny random vision-language models that place image tokens in three different ways, and pictures to show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from llm_installer.core.model_info import read_model_info
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.install.tiny import MODEL_DIR

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "purple", "orange")
EDGE = 32
"""Pixels of a picture."""

# Written in parts only, as LLaVA's is: text that comes as a string would vanish.
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Takes strings too, and trims, as Gemma's does.
STRINGS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": EDGE,
    "patch_size": 8,
    "initializer_range": 0.2,
}


def reads(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        # Embeddings of the usual 0.02 are also the output layer here, and could never be sure of a word.
        "initializer_range": 0.2,
    }


def with_tokens(template: str, **extra: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, extra_special_tokens=extra)
    tokenizer.chat_template = template
    return tokenizer


def llava(folder: Path) -> None:
    """Every image is the same number of image tokens in a row."""
    tokenizer = with_tokens(PARTS.replace("IMAGE", "<image>\n"), image_token="<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**SEES, projection_dim=16).to_dict(),
        text_config={"model_type": "llama", **reads(tokenizer)},
        image_token_id=tokenizer.image_token_id,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": EDGE, "width": EDGE}
    pixels = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    LlavaProcessor(
        pixels, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)


def gemma3(folder: Path) -> None:
    """A mark in the text becomes soft tokens of another kind between two tokens, whose kinds the model must be told."""
    tokenizer = with_tokens(
        STRINGS.replace("IMAGE", "<start_of_image>"),
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>",
    )  # fmt: skip
    text = {**reads(tokenizer), "head_dim": 16, "sliding_window": 64}
    config = Gemma3Config(
        text_config={**text, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16},
        vision_config={**SEES, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    model = Gemma3ForConditionalGeneration(config)
    # Made as zeros, which would make all pictures look the same.
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_()
    model.save_pretrained(folder)
    pixels = Gemma3ImageProcessorPil(size={"height": EDGE, "width": EDGE})
    Gemma3Processor(pixels, tokenizer, image_seq_length=4).save_pretrained(folder)


def idefics3(folder: Path) -> None:
    """An image becomes as many tiles as it is large, each with a name, and the whole of it once more."""
    tiles = {f"row_{r}_col_{c}": f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)}
    tokenizer = with_tokens(
        PARTS.replace("IMAGE", "<image>"),
        image_token="<image>", fake_image_token="<fake_token_around_image>",
        end_of_utterance_token="<end_of_utterance>", global_image_token="<global-img>", **tiles,
    )  # fmt: skip
    config = Idefics3Config(
        vision_config=SEES,
        text_config={"model_type": "llama", **reads(tokenizer)},
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    pixels = Idefics3ImageProcessorPil(size={"longest_edge": 2 * EDGE}, max_image_size={"longest_edge": EDGE})
    Idefics3Processor(pixels, tokenizer, image_seq_len=4).save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {"llava": llava, "gemma3": gemma3, "idefics3": idefics3}


@dataclass(frozen=True)
class Seer:
    """A saved model that sees."""

    family: str
    folder: Path

    @property
    def encoder(self) -> Encoder:
        return load_encoder(read_model_info(self.folder))

    @property
    def processor(self) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self.folder)


@pytest.fixture(scope="session")
def make_seer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Seer]:
    made: dict[str, Seer] = {}

    def make(family: str) -> Seer:
        if family not in made:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp("seers") / family
            FAMILIES[family](folder)
            made[family] = Seer(family, folder)
        return made[family]

    return make


@pytest.fixture(params=list(FAMILIES))
def seer(request: pytest.FixtureRequest, make_seer: Callable[[str], Seer]) -> Seer:
    return make_seer(request.param)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Eight plain pictures, by the names of their colours."""
    files = [tmp_path / "pictures" / f"{colour}.png" for colour in COLOURS]
    files[0].parent.mkdir()
    for colour, file in zip(COLOURS, files, strict=True):
        Image.new("RGB", (EDGE, EDGE), colour).save(file)
    return files


@pytest.fixture
def captions(tmp_path: Path, pictures: list[Path]) -> Path:
    """Data that name them relative to themselves."""
    file = tmp_path / "captions.jsonl"
    rows = [{"image": f"pictures/{p.name}", "caption": f"It is {p.stem}."} for p in pictures]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file
