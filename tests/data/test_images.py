"""Images are found beside their data or in the caller's folder, and never fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.images import ImageGone, placed
from llm_installer.data.reading.rows import Source


@pytest.fixture
def source(tmp_path) -> Source:
    for name in ("data/a b.png", "data/both.png", "both.png", "mine.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"png")
    return Source(tmp_path / "data" / "my.jsonl", "data/my.jsonl")


def place(image: str, source: Source) -> str:
    example = Example((Message("user", "<image>"), Message("assistant", "x")), Origin("f"), images=(image,))
    return placed(example, source, source.path.parent.parent).images[0]


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
    assert place("data:image/png;base64,AAAA", source) == "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("gone.png", "there is no image .*/data/gone.png"),
        ("data", "there is no image"),
        ("https://x.org/a.png", "https://x.org/a.png is on the web, and nothing is downloaded"),
        ("s3://bucket/a.png", "on the web"),
    ],
)
def test_not_found(image, reason, source):
    with pytest.raises(ImageGone, match=reason):
        place(image, source)
