"""Array types that several rooms pass to each other."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = npt.NDArray[np.uint64]
"""64-bit hashes, shape [rows]."""
Indices: TypeAlias = npt.NDArray[np.int64]
"""Row numbers, in any order."""
Numbers: TypeAlias = npt.NDArray[np.int64]
"""Counts, lengths or positions."""
NamedArrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"
"""Inputs of a model beside the ids, by name."""
