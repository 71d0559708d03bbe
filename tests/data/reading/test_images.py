"""Images are found beside their data or in the caller's folder, and never fetched."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.reading.images import ImageError, open_image, with_image_paths
from llm_installer.data.reading.rows import Source


@pytest.fixture
def source(tmp_path) -> Source:
    for name in ("data/a b.png", "data/both.png", "both.png", "mine.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    return Source(tmp_path / "data" / "my.jsonl", "data/my.jsonl")


def place(image: str, source: Source) -> str:
    example = Example((Message("user", "<image>"), Message("assistant", "x")), Origin("f"), images=(image,))
    return with_image_paths(example, source, source.path.parent.parent).images[0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a b.png", "data/a b.png"),
        ("./both.png", "data/both.png"),
        ("mine.png", "mine.png"),
        ("data/both.png", "data/both.png"),
        ("{base}/mine.png", "mine.png"),
        ("file://{base}/data/a%20b.png", "data/a b.png"),
    ],
)
def test_found(image, expected, source, tmp_path):
    assert Path(place(image.format(base=tmp_path), source)) == tmp_path / expected


def test_an_image_inside_the_record_stays_there(source):
    held = base64.b64encode((source.path.parent / "a b.png").read_bytes()).decode()
    for address in (f"data:image/png;base64,{held}", f"data:application/octet-stream;base64,{held}"):
        assert place(address, source) == address
        assert open_image(address).size == (2, 2)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("gone.png", "the image .*/data/gone.png does not exist"),
        ("data", "the image .*/data/data does not exist"),
        ("https://x.org/a.png", "https://x.org/a.png is on the web, and images are not downloaded"),
        ("s3://bucket/a.png", "on the web"),
        ("empty.png", "the image .*/data/empty.png is empty"),
        ("words.png", "the image .*/data/words.png is damaged, or not an image"),
        ("data:image/png;base64,AAAA", "the image data:image/png;base64,AAAA is damaged, or not an image"),
        ("data:text/plain,hello", "cannot be read .it is not base64"),
    ],
)
def test_not_found(image, reason, source):
    (source.path.parent / "empty.png").touch()
    (source.path.parent / "words.png").write_text("words")
    with pytest.raises(ImageError, match=reason):
        place(image, source)


def test_pictures_are_upright_and_in_colour(tmp_path):
    turned = Image.new("L", (4, 2), 200)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    shown = open_image(str(tmp_path / "turned.jpg"))
    assert (shown.mode, shown.size) == ("RGB", (2, 4))


def test_a_picture_that_breaks_off_is_noticed_when_it_is_opened(tmp_path):
    file = tmp_path / "cut.jpg"
    Image.effect_noise((64, 64), 90).save(file)
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(ImageError, match=r"the image .*/cut\.jpg cannot be read \(.*truncated"):
        open_image(str(file))
