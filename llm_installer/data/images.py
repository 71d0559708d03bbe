"""Where the images of an example are: beside its data, at an absolute path, or inside the record itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from llm_installer.core.examples import Example
from llm_installer.data.reading.rows import Source, shortened


class ImageGone(Exception):
    """An image is not where the record says."""


def placed(example: Example, source: Source, base: Path) -> Example:
    """The example with absolute paths to its images; relative ones begin at the folder of their file, else at `base`.

    Raises ImageGone, in words, for an image that is not there. Nothing is downloaded.
    """
    beside = source.path if source.path.is_dir() else source.path.parent
    return replace(example, images=tuple(_place(image, (beside, base)) for image in example.images))


def _place(image: str, folders: Sequence[Path]) -> str:
    if image.startswith("data:"):
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
    return str(found)
