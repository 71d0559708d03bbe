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


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg", "data:image/png;base64,"])
def test_postscript_is_never_run_whatever_its_name(name, source, tmp_path, monkeypatch):
    """Pillow hands an EPS to the program gs; here one that leaves a trace stands first in the path."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    if name.startswith("data:"):
        name += base64.b64encode(POSTSCRIPT).decode()
    else:
        (source.path.parent / name).write_bytes(POSTSCRIPT)
    with pytest.raises(ImageError, match=r"not an image of a kind that is read .PNG, JPEG"):
        place(name, source)
    with pytest.raises(ImageError):
        open_image(name if name.startswith("data:") else str(source.path.parent / name))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_the_usual_kinds_are_read_whatever_their_name(kind, tmp_path):
    Image.new("RGB", (16, 16), (0, 128, 255)).save(tmp_path / "x.png", format=kind)
    assert open_image(str(tmp_path / "x.png")).size == (16, 16)


def test_no_other_call_opens_images_of_every_kind():
    package = Path(__file__).parents[3] / "llm_installer"
    calls = [line for file in package.rglob("*.py") for line in file.read_text().splitlines() if "Image.open(" in line]
    assert len(calls) == 1 and "formats=_known()" in calls[0]
