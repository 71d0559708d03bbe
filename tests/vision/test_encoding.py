"""Rows with images: the processor's own ids, only answers supervised, everything that is wrong with an image named."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.model_info import read_model_info
from llm_installer.data.batches import collate
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.prepare import prepare, read
from llm_installer.data.reading.images import image_content
from llm_installer.data.store.load import DataRequest, load_examples
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler


def talk(*said: str, images: tuple[Path | str, ...] = ()) -> Example:
    """Turns of user and assistant by turns."""
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(said)]
    return Example(tuple(turns), Origin("f", 1), images=tuple(map(str, images)))


def conversation(example: Example) -> list[dict[str, Any]]:
    """The same for the processor itself: an image part wherever a mark stands."""
    images = iter(example.images)
    turns = []
    for message in example.messages:
        first, *rest = message.content.split("<image>")
        parts: list[dict[str, str]] = [{"type": "text", "text": first}] if first else []
        for text in rest:
            parts.append({"type": "image", "path": next(images)})
            parts += [{"type": "text", "text": text}] if text else []
        turns.append({"role": message.role, "content": parts})
    return turns


def conversations(pictures: list[Path], wide: Path) -> list[Example]:
    red, blue = pictures[:2]
    return [
        talk("<image>", "It is red.", images=(red,)),
        talk("<image>\nWhat is it?", "It is red.", "Sure?", "Yes.", images=(red,)),
        talk("What is <image> here?", "A wide one.", images=(wide,)),
        talk("<image>\n<image>\nSame?", "No.", "And <image>?", "Wide.", images=(red, blue, wide)),
        talk("Hi", "Hello!", "<image> What?", "Blue.", images=(blue,)),
        talk("No picture at all.", "None."),
    ]


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    file = tmp_path / "wide.png"
    Image.new("RGB", (64, 32), "green").save(file)
    return file


def test_ids_and_pixels_are_the_processors_own(seer, pictures, wide):
    encoder, processor = seer.encoder, seer.processor
    for example in conversations(pictures, wide):
        (row,) = encoder.encode(example)
        own = processor.apply_chat_template(
            conversation(example), tokenize=True, return_dict=True, return_tensors="np", processor_kwargs={}
        )
        whole = own["input_ids"][0].tolist()
        assert row.ids.tolist() == whole[: len(row.ids)]
        assert processor.tokenizer.decode(whole[len(row.ids) :]).strip() == "", "only space may follow the last answer"
        made = encoder.inputs(row.ids[None].astype(np.int64), [row.images])
        assert set(made) == set(own) - {"input_ids", "attention_mask"}
        for name, array in made.items():
            expected = own[name][:, : len(row.ids)] if name == "token_type_ids" else own[name]
            assert np.array_equal(array, expected), name


def test_answers_and_their_ends_are_supervised_and_nothing_else(seer, pictures, wide):
    encoder = seer.encoder
    for example in conversations(pictures, wide):
        (row,) = encoder.encode(example)
        answers = [m.content + "<|im_end|>" for m in example.messages if m.role == "assistant"]
        assert encoder.tokenizer.decode(row.ids[row.supervised]) == "".join(answers)
        assert not np.isin(row.ids[row.supervised], encoder.vision.image_ids).any()
        assert np.isin(row.ids, encoder.vision.image_ids).any() == bool(example.images)


def test_no_image_is_supervised_with_the_prompt_either(seer, pictures, wide):
    encoder = load_encoder(read_model_info(seer.folder), train_on_prompt=True)
    (row,) = encoder.encode(conversations(pictures, wide)[3])
    text = encoder.tokenizer.decode(row.ids[row.supervised])
    assert "Same?" in text and "image" not in text


def test_padding_is_not_scored_and_text_rows_go_along(seer, pictures, wide):
    encoder = seer.encoder
    rows = [row for e in conversations(pictures, wide) for row in encoder.encode(e)]
    batch = collate(rows, encoder.eos, encoder.inputs)
    assert batch.tokens == sum(len(r.ids) for r in rows)
    assert len(batch.targets) == sum(int(r.supervised.sum()) for r in rows)
    alone = collate([rows[-1]], encoder.eos, encoder.inputs)
    assert not rows[-1].images and set(alone.extra) <= {"token_type_ids"}
    assert not np.isin(batch.targets, encoder.vision.image_ids).any()


def test_typed_marks_and_control_tokens_stay_text(seer, pictures):
    encoder = seer.encoder
    typed = talk(f"<image>\nWhat is <|im_end|> and {encoder.vision.token[:-1]}?", "Text.", images=(pictures[0],))
    (row,) = encoder.encode(typed)
    end = encoder.stop_ids[0]
    assert row.ids.tolist().count(end) == 2, "one that ends the question, one that ends the answer"
    assert "What is <|im_end|> and" in encoder.tokenizer.decode(row.ids)
    (plain,) = encoder.encode(talk(f"What is {encoder.vision.token}?", "A mark."))
    assert not np.isin(plain.ids, encoder.vision.image_ids).any()
    assert encoder.vision.token in encoder.tokenizer.decode(plain.ids)


def test_prompts_are_the_beginnings_of_rows(seer, pictures, wide):
    encoder = seer.encoder
    for example in conversations(pictures, wide)[:3]:
        (row,) = encoder.encode(example)
        prompt = encoder.prompt_ids(example.messages[:1], images=example.images)
        assert row.ids[: len(prompt)].tolist() == prompt
        assert int(np.argmax(row.supervised)) == len(prompt)


def test_bos_where_the_processor_puts_it(make_seer, pictures):
    from tokenizers import processors

    seer = make_seer("llava")
    encoder, processor = seer.encoder, seer.processor
    for tokenizer in (encoder.tokenizer, processor.tokenizer):
        tokenizer.bos_token = "<|im_start|>"
        bos = tokenizer.convert_tokens_to_ids("<|im_start|>")
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", bos)]
        )
        tokenizer.chat_template = "Chat\n" + tokenizer.chat_template
    processor.chat_template = processor.tokenizer.chat_template
    encoder = Encoder(encoder.tokenizer, processor=encoder.vision.processor)
    example = talk("<image> What?", "Red.", images=(pictures[0],))
    (row,) = encoder.encode(example)
    own = processor.apply_chat_template(conversation(example), tokenize=True, return_dict=True)["input_ids"][0]
    assert row.ids[0] == bos and row.ids.tolist() == own[: len(row.ids)]


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (talk("See", "<image> here", images=("a.png",)), "it has an image in an answer"),
        (talk("<image> <image>", "Two", images=("{red}",)), "the number of <image> marks is not the number of images"),
        (talk("<image>", "x", images=("{base}/gone.png",)), "the image .*/gone.png does not exist"),
        (talk("<image>", "x", images=("{base}/cut.png",)), "the image .*/cut.png cannot be read"),
    ],
)
def test_refused_with_a_reason(make_seer, pictures, tmp_path, example, reason):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    images = tuple(i.format(red=pictures[0], base=tmp_path) for i in example.images)
    images = tuple(str(pictures[0]) if i == "a.png" else i for i in images)
    with pytest.raises(CannotRender, match=reason):
        make_seer("llava").encoder.encode(Example(example.messages, example.origin, images=images))


def test_a_text_model_says_that_it_reads_only_text(tiny_llama, captions, tmp_path):
    options = Options(data=str(captions))
    given = read(options, tmp_path)
    info = read_model_info(tiny_llama)
    rows, dropped = encode_all(given.train, load_encoder(info))
    assert not len(rows) and {d.reason for d in dropped} == {"it has images, and this model reads only text"}
    with pytest.raises(DataError, match=r"captions.jsonl:\d: it has images, and this model reads only text"):
        prepare(given, load_encoder(info), options, info, find_handler(info))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "processor_config.json").unlink(), "came without its image processor"),
        (lambda folder: (folder / "processor_config.json").write_text("{}"), "its? .*cannot be loaded|do(es)? not say"),
    ],
    ids=["no processor", "a broken one"],
)
def test_a_model_without_its_processor_says_so_and_still_learns_text(make_seer, captions, tmp_path, change, reason):
    folder = tmp_path / "model"
    shutil.copytree(make_seer("gemma3").folder, folder)
    change(folder)
    encoder = load_encoder(read_model_info(folder))
    example = talk("<image>", "x", images=(tmp_path / "pictures" / "red.png",))
    rows, dropped = encode_all([example, talk("Hi", "Hello")], encoder)
    assert len(rows) == 1 and [d.origin.line for d in dropped] == [1]
    assert re.search(reason, dropped[0].reason), dropped[0].reason


def write(folder: Path, *rows: object) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


SHAPES: tuple[Callable[[str], object], ...] = (
    lambda image: {"image": image, "caption": "It is red."},
    lambda image: {"image": image, "question": "What is it?", "answer": "It is red."},
    lambda image: {
        "image": image,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "It is red."},
        ],
    },
    lambda image: {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What?"}],
            },
            {"role": "assistant", "content": "It is red."},
        ]
    },
)


def inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


@pytest.mark.parametrize("shape", SHAPES, ids=("caption", "question", "llava", "messages"))
def test_every_shape_of_record_is_trained_on(make_seer, pictures, tmp_path, shape):
    file = write(tmp_path, shape("pictures/red.png"), shape(str(pictures[0])), shape(inline(pictures[0])))
    loaded = load_examples(DataRequest(str(file), base=tmp_path / "elsewhere"))
    encoder = make_seer("idefics3").encoder
    rows, dropped = encode_all(loaded.train, encoder)
    assert not dropped and [len(r) for r in (rows[0].ids, rows[1].ids, rows[2].ids)] == [len(rows[0].ids)] * 3
    assert [encoder.tokenizer.decode(r.ids[r.supervised]) for r in rows] == ["It is red.<|im_end|>"] * 3


BAD = {
    "gone.png": "the image {base}/gone.png does not exist",
    "empty.png": "the image {base}/empty.png is empty",
    "text.png": "the image {base}/text.png is damaged, or not an image",
    "https://x.org/a.png": "the image https://x.org/a.png is on the web, and images are not downloaded",
    "data:image/png;base64,!!!": "the image data:image/png;base64,!!! cannot be read",
    "data:image/png,abc": "the image data:image/png,abc cannot be read (it is not base64)",
    "data:image/png;base64,": "the image data:image/png;base64, is empty",
}


@pytest.mark.parametrize("shape", SHAPES, ids=("caption", "question", "llava", "messages"))
def test_bad_images_are_named_by_file_record_and_path(pictures, tmp_path, shape):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    file = write(tmp_path, shape("pictures/red.png"), *map(shape, BAD))
    loaded = load_examples(DataRequest(str(file), base=tmp_path))
    assert len(loaded.train) == 1
    for line, (dropped, reason) in enumerate(zip(loaded.dropped, BAD.values(), strict=True), 2):
        assert str(dropped.origin) == f"rows.jsonl:{line}" or dropped.origin.line == line
        assert dropped.reason.startswith(reason.format(base=tmp_path)), dropped.reason
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the image .* does not exist"):
        load_examples(DataRequest(str(file), base=tmp_path, strict=True))


def test_real_photographs_in_several_turns(seer, shared):
    file = shared / "data" / "vision" / "mllm_demo.json"
    loaded = load_examples(DataRequest(str(file), base=file.parent))
    rows, dropped = encode_all(loaded.train, seer.encoder)
    assert not loaded.dropped and not dropped and len(rows) == len(loaded.train)
    for row, example in zip(rows, loaded.train, strict=True):
        assert row.images == example.images and row.images
        answers = [m.content + "<|im_end|>" for m in example.messages if m.role == "assistant"]
        assert seer.encoder.tokenizer.decode(row.ids[row.supervised]) == "".join(answers)


def test_a_mended_image_is_found_the_next_time(pictures, tmp_path):
    broken = tmp_path / "text.png"
    broken.write_text("no image")
    file = write(tmp_path, {"image": "pictures/red.png", "caption": "x"}, {"image": "text.png", "caption": "y"})
    assert len(load_examples(DataRequest(str(file), base=tmp_path)).train) == 1
    broken.write_bytes(pictures[0].read_bytes())
    assert len(load_examples(DataRequest(str(file), base=tmp_path)).train) == 2


def test_rows_that_do_not_fit_are_skipped(make_seer, captions, tmp_path):
    seer = make_seer("llava")
    lines = [{"instruction": "Say a lot", "output": "word " * 60}, {"instruction": "Hi", "output": "Hello"}]
    captions.write_text(captions.read_text() + "\n" + "\n".join(map(json.dumps, lines)))
    options = Options(data=str(captions), validation_split=0, max_seq_length=26)
    info = read_model_info(seer.folder)
    encoder = seer.encoder
    prepared = prepare(read(options, tmp_path), encoder, options, info, find_handler(info))
    lengths = [len(encoder.encode(e)[0].ids) for e in read(options, tmp_path).train if e.images]
    assert len(prepared.dropped) == sum(n > 26 for n in lengths) > 0
    assert "with its images it is" in prepared.dropped[0].reason and "never cut" in prepared.dropped[0].reason
    for row in prepared.train:
        whole = int(np.isin(row.ids, encoder.vision.image_ids).sum())
        assert len(row.ids) <= 26 and whole == 16 * len(row.images)
    chosen = prepare(
        read(options, tmp_path), encoder, Options(data=str(captions), validation_split=0), info, find_handler(info)
    )
    assert not chosen.dropped


def test_many_rows_are_kept_on_disk_until_an_image_changes(make_seer, pictures, tmp_path, monkeypatch):
    from llm_installer.data.encoding import encode_cache

    monkeypatch.setattr(encode_cache, "SMALL", 1)
    seer = make_seer("idefics3")
    file = write(tmp_path, *({"image": f"pictures/{p.name}", "caption": p.stem} for p in pictures))
    loaded = load_examples(DataRequest(str(file), base=tmp_path))
    view = loaded.train.select(np.arange(8))
    first, _ = encode_cache.encode(view, seer.encoder, lambda done, total: None)
    again, _ = encode_cache.encode(view, seer.encoder, lambda done, total: None)
    assert [r.images for r in again] == [r.images for r in first] == [(str(p),) for p in pictures]
    assert np.array_equal(first.ids, again.ids)
    Image.new("RGB", (64, 32), "red").save(pictures[0])
    changed, _ = encode_cache.encode(view, seer.encoder, lambda done, total: None)
    assert changed.lengths[0] != first.lengths[0] and changed.lengths[1] == first.lengths[1]


def test_rows_are_others_when_a_picture_is_exchanged(make_seer, pictures, tmp_path):
    """Of the same size, so that the tokens stay; a picture that only moved is the same."""
    encoder = make_seer("llava").encoder

    def rows():
        examples = [talk("<image>", "A picture.", images=(picture,)) for picture in pictures]
        return encode_all(examples, encoder)[0]

    before = rows()
    known = before.fingerprint()
    moved = shutil.move(pictures[0], tmp_path / "moved.png")
    kept, pictures[0] = pictures[0], moved
    assert rows().fingerprint() == known
    Image.new("RGB", (32, 32), "pink").save(kept)
    pictures[0] = kept
    after = rows()
    assert np.array_equal(after.ids, before.ids)
    assert after.fingerprint() != known


@pytest.mark.parametrize("place", [0, 1 << 20, -1])
def test_large_pictures_are_told_apart_by_samples(tmp_path, place):
    content = bytearray(3 << 20)
    (tmp_path / "one").write_bytes(content)
    content[place] = 1
    (tmp_path / "other").write_bytes(content)
    one, other = (image_content(str(tmp_path / name)) for name in ("one", "other"))
    assert one != other and len(other) < 1 << 19


def test_other_processes_encode_the_same(make_seer, pictures, tmp_path):
    from llm_installer.data.encoding.encode_parallel import encode_to_folder
    from llm_installer.data.encoding.encoded import EncodedSet

    encoder = make_seer("gemma3").encoder
    file = write(tmp_path, *({"image": f"pictures/{p.name}", "caption": p.stem} for p in pictures))
    view = load_examples(DataRequest(str(file), base=tmp_path)).train.select(np.arange(8))
    folder = tmp_path / "encoded"
    folder.mkdir()
    encode_to_folder(view, encoder, folder, lambda done, total: None, processes=2)
    here, there = encode_all(view, encoder)[0], EncodedSet.load(folder)
    assert np.array_equal(here.ids, there.ids) and there.pictures.tolist() == [1] * 8
