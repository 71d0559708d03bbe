"""One training row: an example as token ids and loss mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """An example, or a part of one, as token ids and loss mask, both of shape [length]."""

    ids: Ids
    supervised: Mask
    """Which tokens count in the loss when they are predicted; the others are masked."""
    source: int
    """Index of the example it came from."""
    text: bool = False
    """True for plain text, which may be split where it is too long."""
    images: tuple[str, ...] = ()
    """Paths or data: addresses of the images that some of its tokens stand for, in order."""
