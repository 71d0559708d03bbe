"""Qwen-VL: pictures of any size become grids of tokens with positions in the plane, which the model must be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, ProcessorMixin, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.batches import collate
from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.engine.alone import Alone
from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.base import model_inputs
from llm_installer.training.fast.loss import SupervisedLoss

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "a": "<|vision_start|>",
    "b": "<|vision_end|>",
}
SIZES = ((32, 32), (64, 32), (48, 48), (32, 64))


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real processor less its video half, which needs torchvision."""
    checked = ProcessorMixin.check_argument_for_proper_class
    monkeypatch.setattr(
        ProcessorMixin,
        "check_argument_for_proper_class",
        lambda self, name, part: None if name == "video_processor" else checked(self, name, part),
    )
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, extra_special_tokens=TOKENS)
    tokenizer.chat_template = TEMPLATE
    pixels = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, min_pixels=256, max_pixels=4096)
    return Qwen2VLProcessor(pixels, tokenizer, None, chat_template=TEMPLATE)


@pytest.fixture
def model(processor: Any) -> Qwen2VLForConditionalGeneration:
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 4, "patch_size": 8},
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config).eval()


@torch.no_grad()
def test_ids_and_losses_are_those_of_transformers_alone(processor, model, tmp_path: Path):
    encoder = Encoder(processor.tokenizer, processor=processor)
    rows, own = [], 0.0
    for number, size in enumerate(SIZES):
        file = tmp_path / f"{number}.png"
        Image.effect_noise(size, 60).save(file)
        turns = (Message("user", "<image>What?"), Message("assistant", f"Number {number}."))
        (row,) = encoder.encode(Example(turns, Origin("f"), images=(str(file),)))
        parts = [{"type": "image", "path": str(file)}, {"type": "text", "text": "What?"}]
        answer = [{"type": "text", "text": turns[1].content}]
        made = processor.apply_chat_template(
            [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}],
            tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        whole = made["input_ids"].shape
        made = {name: t[:, : len(row.ids)] if t.shape == whole else t for name, t in made.items()}
        assert made["input_ids"][0].tolist() == row.ids.tolist()
        labels = made["input_ids"].masked_fill(~torch.from_numpy(row.supervised)[None], -100)
        own += float(model(**made, labels=labels).loss) * int(row.supervised.sum())
        rows.append(row)
    assert len({len(row.ids) for row in rows}) > 1, "larger pictures are more tokens"
    rows += encoder.encode(Example((Message("user", "Hi"), Message("assistant", "Hello")), Origin("f")))
    ids = torch.from_numpy(rows[-1].ids)[None].long()
    labels = ids.masked_fill(~torch.from_numpy(rows[-1].supervised)[None], -100)
    own += float(model(input_ids=ids, labels=labels).loss) * int(rows[-1].supervised.sum())

    batch, head = collate(rows, encoder.eos, encoder.inputs), SupervisedLoss(model)
    assert set(batch.extra) == {"pixel_values", "image_grid_thw", "mm_token_type_ids"}
    tensors = [torch.from_numpy(array) for array in (batch.ids, batch.positions, batch.targets)]
    together = head(*tensors, {n: torch.from_numpy(a) for n, a in batch.extra.items()})
    assert float(together) == pytest.approx(own, rel=1e-5)
    assert not np.isin(batch.targets, encoder.vision.image_ids).any()


def test_the_engine_answers_about_pictures_as_generate_does(processor, model, tmp_path: Path):
    encoder = Encoder(processor.tokenizer, processor=processor)
    batch = Alone(model, AdapterBank(model), encoder)
    for number, size in enumerate(SIZES[:2]):
        file = tmp_path / f"{number}.png"
        Image.effect_noise(size, 60).save(file)
        ids = encoder.prompt_ids([Message("user", "<image>What?")], images=[str(file)])
        generated = samples_of(model, encoder, ids, str(file))
        with torch.inference_mode():
            logits = batch._forward("base", torch.tensor([ids]), encoder.inputs(np.array([ids]), [[str(file)]]))
            said = [int(logits[0].argmax())]
            while len(said) < len(generated):
                said.append(int(batch._forward("base", torch.tensor([said[-1:]]), {})[0].argmax()))
        batch._cache = None
        assert said == generated


def samples_of(model, encoder: Encoder, ids: list[int], image: str) -> list[int]:
    inputs = model_inputs(encoder.inputs(np.array([ids]), [[image]]), "cpu", torch.float32)
    made = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0, **inputs)
    return made[0, len(ids) :].tolist()
