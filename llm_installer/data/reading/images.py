"""The images of an example: beside its data, at an absolute path, or inside the record; found, and opened."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from llm_installer.core.examples import Example
from llm_installer.data.reading.rows import Source, shortened

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLE = 1 << 16
"""Bytes."""


class ImageGone(Exception):
    """An image is not where the record says, or is none."""


def placed(example: Example, source: Source, base: Path) -> Example:
    """The example with absolute paths to its images; relative ones begin at the folder of their file, else at `base`.

    Raises ImageGone, in words, for an image that is not there or plainly broken. Nothing is downloaded.
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
        raise ImageGone(f"the image {shortened(image)} is neither a path nor an address") from None
    if address.scheme in ("http", "https", "ftp", "s3", "gs", "hf"):
        raise ImageGone(f"the image {image} is on the web, and nothing is downloaded; save it and give its path")
    name = os.path.expanduser(unquote(address.path) if address.scheme == "file" else image)
    found = next((folder / name for folder in folders if os.path.isfile(folder / name)), None)
    if found is None:
        raise ImageGone(f"there is no image {folders[0] / name}")
    _check(str(found))
    return str(found)


def opened(image: str) -> Image:
    """The picture at a path or inside a data: address, whole, upright and in RGB. Raises ImageGone."""
    from PIL import ImageOps

    with _reading(image) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def image_content(image: str) -> bytes:
    """The picture's bytes, or of a large file its size and four samples: enough to tell it from another picture."""
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
    except (OSError, ValueError):  # Training names it, where it is still gone by then.
        return b""


def _check(image: str) -> None:
    """Raise ImageGone when the file says by itself that it is none; that it is whole, only decoding tells."""
    with _reading(image) as picture:
        picture.verify()


@contextmanager
def _reading(image: str) -> Iterator[Image]:
    """The picture, not decoded yet; all that its file can do wrong becomes ImageGone."""
    from PIL import Image, UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    name = shortened(image, 40) if image.startswith("data:") else image
    try:
        content = _inside(image) if image.startswith("data:") else None
        if content == b"" or (content is None and not os.path.getsize(image)):
            raise ImageGone(f"the image {name} is empty")
        with Image.open(io.BytesIO(content) if content is not None else image) as picture:
            yield picture
    except FileNotFoundError:
        raise ImageGone(f"there is no image {name}") from None
    except UnidentifiedImageError:
        raise ImageGone(f"the image {name} is broken, or no image at all") from None
    # What decoders raise when a file breaks off or contradicts itself.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, DecompressionBombError) as error:
        raise ImageGone(f"the image {name} cannot be read ({error})") from None


def _inside(image: str) -> bytes:
    """The bytes in a data: address. Raises ValueError when they are not base64."""
    head, _, body = image.partition(",")
    if not head.endswith(";base64"):
        raise ValueError("it is not base64")
    return base64.b64decode("".join(unquote(body).split()), validate=True)
