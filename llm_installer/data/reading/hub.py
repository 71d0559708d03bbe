"""Datasets of the Hugging Face hub, asked for as name, name:split, name:config or name:config:split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.data.reading.rows import PARTS, Row, Source, shortened
from llm_installer.data.reading.splits import choose_splits

_ID = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w.-]+)?)(:(?P<words>[\w.+-]+(:[\w.+-]+)?))?", re.ASCII)
_TIMEOUT_S = 15
_BATCH_ROWS = 1024
_REASONS = (
    (
        "GatedRepoError|gated dataset",
        "the hub wants its terms accepted first; do so on its page, then log in with: hf auth login",
    ),
    ("RepositoryNotFoundError", "the hub has no dataset of that name, or only a private one; correct the name or path"),
    ("DatasetNotFoundError", "the hub has no dataset of that name, or only a private one; correct the name or path"),
    ("OfflineModeIsEnabled", "the hub is switched off by HF_HUB_OFFLINE; give a file, or unset HF_HUB_OFFLINE"),
    ("Connect|Timeout|Network", "the hub cannot be reached; give a file, or HF_HUB_OFFLINE=1 for a copy from before"),
    ("", "the hub or its data failed ({error}); download a file of it and give that"),
)


def is_hub_id(piece: str) -> bool:
    """Whether a word may name a dataset of the hub."""
    return _ID.fullmatch(piece) is not None


def hub_sources(piece: str, not_here: str) -> tuple[list[Source], list[str]]:
    """The splits to read of a hub dataset; `not_here` begins the message when there is none."""
    match = _ID.fullmatch(piece)
    assert match is not None, piece
    name, words = match["name"], (match["words"] or "").split(":")
    with _reported(not_here):
        from datasets import get_dataset_config_names, get_dataset_split_names  # type: ignore[import-untyped]

        _ask_hub(name)
        configs: list[str] = get_dataset_config_names(name)
        config, split = _config_and_split(name, words, configs)
        splits: list[str] = get_dataset_split_names(name, config)
    shown = name if len(configs) == 1 else f"{name}:{config}"
    chosen, notes = choose_splits(splits, split, shown)
    return [
        Source(Path(name), f"{shown}:{split}", split=split, part=part, hub=name, config=config)
        for split, part in chosen
    ], notes


def hub_rows(source: Source) -> Iterator[Row]:
    """The rows of one split; it is downloaded first, or taken from the cache."""
    with _reported(f"{source.name} cannot be read"):
        from datasets import load_dataset

        dataset = load_dataset(source.hub, source.config, split=source.split)
        number = 0
        for table in dataset.with_format("arrow").iter(_BATCH_ROWS):
            for record in table.to_pylist():
                number += 1
                yield Row(record, Origin(source.name, record=number), source.part)


def _config_and_split(name: str, words: list[str], configs: list[str]) -> tuple[str, str]:
    first, second = words[0], words[1] if len(words) > 1 else ""
    config = first if second or (first in configs and first.lower() not in PARTS) else ""
    split = second if config else first
    if not config and (len(configs) == 1 or "default" in configs):
        config = "default" if "default" in configs else configs[0]
    if config not in configs:
        listed = shortened(", ".join(configs), 200)
        raise DataError(f"{name} wants one of its configurations ({listed}); say which, as in {name}:{configs[0]}")
    return config, split


def _ask_hub(name: str) -> None:
    """Fail in seconds where the libraries below would try for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        HfApi().dataset_info(name, timeout=_TIMEOUT_S)
    except OfflineModeIsEnabled:
        return  # there may be a copy in the cache


@contextmanager
def _reported(beginning: str) -> Iterator[None]:
    """Turn what the hub's libraries raise into one DataError."""
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]
    from huggingface_hub.errors import HfHubHTTPError

    # The bases of HfHubHTTPError bring in the errors of the HTTP library, which differs between versions of the hub's.
    try:
        yield
    except (OSError, ValueError, RuntimeError, DatasetsError, *HfHubHTTPError.__bases__) as error:
        kinds = " ".join([kind.__name__ for kind in type(error).__mro__] + [str(error)])
        reason = next(text for pattern, text in _REASONS if re.search(pattern, kinds))
        raise DataError(f"{beginning}; {reason.format(error=shortened(str(error), 160))}") from None
