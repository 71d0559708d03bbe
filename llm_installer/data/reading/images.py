"""The images of an example, in files or inside the record: found, checked and opened."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from llm_installer.core.examples import Example
from llm_installer.core.text import shortened
from llm_installer.data.reading.rows import Source

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "AVIF")
"""Kinds of images that are read, by what a file holds, not by its name. Others start programs: an EPS Ghostscript."""
_KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, ICO, AVIF"
_SAMPLE = 1 << 16
"""Bytes."""
_DECODING = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, struct.error),
    *(ArithmeticError, AssertionError, AttributeError, RuntimeError, TypeError),
)
"""What decoders raise for truncated and contradictory files."""


class ImageError(Exception):
    """An image does not exist, or cannot be read. The message says which and why."""


def with_image_paths(example: Example, source: Source, base: Path) -> Example:
    """The example with absolute paths to its images; relative ones are below the folder of `source`, else below `base`.

    Raises ImageError for an image that does not exist or is plainly broken. Nothing is downloaded.
    """
    beside = source.path if source.path.is_dir() else source.path.parent
    return replace(example, images=tuple(_place(image, (beside, base)) for image in example.images))


def _place(image: str, folders: Sequence[Path]) -> str:
    if image.startswith("data:"):
        _check(image)
        return image
    try:
        address = urlsplit(image)
    except ValueError:
        raise ImageError(f"the image {shortened(image, 80)} is neither a path nor an address") from None
    if address.scheme in ("http", "https", "ftp", "s3", "gs", "hf"):
        raise ImageError(f"the image {image} is on the web, and images are not downloaded; save it and give its path")
    name = os.path.expanduser(unquote(address.path) if address.scheme == "file" else image)
    found = next((folder / name for folder in folders if os.path.isfile(folder / name)), None)
    if found is None:
        raise ImageError(f"the image {folders[0] / name} does not exist")
    _check(str(found))
    return str(found)


def open_image(image: str) -> Image:
    """The image at a path or inside a data: address, decoded, upright and in RGB. Raises ImageError."""
    from PIL import ImageOps

    with _reading(image) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def pixels(image: str) -> int:
    """How many an image has, by its header alone. Raises ImageError."""
    with _reading(image) as picture:
        return picture.width * picture.height


def image_content(image: str) -> bytes:
    """The bytes of an image, or the size and four samples of a large one: enough to tell it from another image.

    Empty when the file cannot be read.
    """
    if image.startswith("data:"):
        return image.encode(errors="surrogatepass")
    try:
        with open(image, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= 4 * _SAMPLE:
                return file.read()
            found = [str(size).encode()]
            for offset in (0, size // 3, size * 2 // 3, size - _SAMPLE):
                file.seek(offset)
                found.append(file.read(_SAMPLE))
            return b"".join(found)
    except (OSError, ValueError):  # Opening it for training raises the error, if it is still missing then.
        return b""


def _check(image: str) -> None:
    """Raises ImageError when the header shows that it is not an image; only decoding would find a truncated one."""
    with _reading(image) as picture:
        picture.verify()


@contextmanager
def _reading(image: str) -> Iterator[Image]:
    """The image, not decoded yet; everything that can be wrong with its file becomes ImageError."""
    from PIL import Image, UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    name = shortened(image, 40) if image.startswith("data:") else image
    try:
        content = _inside(image) if image.startswith("data:") else None
        if content == b"" or (content is None and not os.path.getsize(image)):
            raise ImageError(f"the image {name} is empty")
        with Image.open(io.BytesIO(content) if content is not None else image, formats=_known()) as picture:
            yield picture
    except FileNotFoundError:
        raise ImageError(f"the image {name} does not exist") from None
    except UnidentifiedImageError:
        raise ImageError(f"the image {name} is damaged, or not an image of a kind that is read ({_KINDS})") from None
    except (*_DECODING, DecompressionBombError) as error:
        raise ImageError(f"the image {name} cannot be read ({error})") from None


@cache
def _known() -> tuple[str, ...]:
    """Those of the kinds that this build of Pillow reads."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in _FORMATS if kind in Image.OPEN)


def _inside(image: str) -> bytes:
    """The bytes in a data: address. Raises ValueError when they are not base64."""
    head, _, body = image.partition(",")
    if not head.endswith(";base64"):
        raise ValueError("it is not base64")
    return base64.b64decode("".join(unquote(body).split()), validate=True)
