"""What is asked of a merge, and what comes of it; nothing of this loads a model."""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.core.paths import ModelDir
from llm_installer.export.receipt import TOLERANCES, Receipt

FULL, DEQUANTISED = "full", "dequantised"
BASES = (FULL, DEQUANTISED)
"""What a run on a base in 4 or 8 bits can be merged onto."""
AUTO = "auto"
DTYPES = (AUTO, *TOLERANCES)


@dataclass(frozen=True)
class MergeRequest:
    """What is merged, and into what."""

    run: str | None = None
    """A run: its id, a part of it, or `last`."""
    lora: str | None = None
    """The folder of an adapter; None for the run's, or ./lora."""
    to: str | None = None
    """The name of the new model, or a folder; None for the names of model and run."""
    dtype: str = AUTO
    """One of DTYPES; `auto` leaves each tensor in the type that the base has it in."""
    onto: str | None = None
    """One of BASES, for a run on a base in 4 or 8 bits; None for the one that is nearer to the tuned model."""


@dataclass(frozen=True)
class Merged:
    """A merged model."""

    folder: ModelDir
    base: str
    """The name of the base."""
    made_by: str
    """The run, or the folder of the adapter."""
    bytes: int
    """Of its weights."""
    untied: int
    """Bytes of an output layer that is no longer the embedding; 0 where none had to be written."""
    style: str
    """`chat` or `text`, as it was trained."""
    receipt: Receipt
