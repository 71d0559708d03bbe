"""Datasets of the Hugging Face hub, given as name, name:split, name:config or name:config:split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_installer.core.errors import DataError
from llm_installer.core.hints import program
from llm_installer.core.outward import guard_the_hub
from llm_installer.core.text import shortened
from llm_installer.core.user_config import TOKEN, offer_token
from llm_installer.data.reading.arrow_rows import batch_rows
from llm_installer.data.reading.rows import PARTS, Row, Source
from llm_installer.data.reading.splits import choose_splits

_ID = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w.-]+)?)(:(?P<words>[\w.+-]+(:[\w.+-]+)?))?", re.ASCII)
_TIMEOUT_S = 15
_BATCH_ROWS = 1024
_REASONS = (
    (
        "GatedRepoError|gated dataset",
        "its terms must be accepted first; do so on its page on the hub, then set a token with: {log_in}",
    ),
    ("RepositoryNotFoundError", "the hub has no dataset of that name, or it is private; correct the name or path"),
    ("DatasetNotFoundError", "the hub has no dataset of that name, or it is private; correct the name or path"),
    ("OfflineModeIsEnabled", "HF_HUB_OFFLINE switches the hub off; give a file, or unset HF_HUB_OFFLINE"),
    ("Connect|Timeout|Network", "the hub cannot be reached; give a file, or set HF_HUB_OFFLINE=1 to use a cached copy"),
    ("", "the hub or its data failed ({error}); download its files and give those"),
)


def is_hub_id(piece: str) -> bool:
    """Whether a text has the form of a hub dataset."""
    return _ID.fullmatch(piece) is not None


def hub_sources(piece: str, not_here: str) -> tuple[list[Source], list[str]]:
    """The splits to read of a hub dataset, and notes for the user; `not_here` begins the message when there is none.

    Raises DataError.
    """
    offer_token()
    guard_the_hub()
    match = _ID.fullmatch(piece)
    assert match is not None, piece
    name, words = match["name"], (match["words"] or "").split(":")
    with _reported(not_here):
        from datasets import get_dataset_config_names, get_dataset_split_names  # type: ignore[import-untyped]

        name = _id_of(name)
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
    """The rows of one split, which is downloaded first unless it is in the cache. Raises DataError."""
    with _reported(f"{source.name} cannot be read"):
        from datasets import load_dataset

        dataset = load_dataset(source.hub, source.config, split=source.split)
        tables = dataset.with_format("arrow").iter(_BATCH_ROWS)
        yield from batch_rows(source, (batch for table in tables for batch in table.to_batches()))


def _config_and_split(name: str, words: list[str], configs: list[str]) -> tuple[str, str]:
    first, second = words[0], words[1] if len(words) > 1 else ""
    config = first if second or (first in configs and first.lower() not in PARTS) else ""
    split = second if config else first
    if not config and (len(configs) == 1 or "default" in configs):
        config = "default" if "default" in configs else configs[0]
    if config not in configs:
        listed = shortened(", ".join(configs), 200)
        raise DataError(f"{name} has several configurations ({listed}); name one, as in {name}:{configs[0]}")
    return config, split


def _id_of(name: str) -> str:
    """The id by which the hub itself knows a dataset: the short name of an old one, such as squad, has become another.

    Fails in seconds where the libraries below would try for half a minute.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name, timeout=_TIMEOUT_S).id or name
    except OfflineModeIsEnabled:
        return _cached_id(name)  # there may be a copy in the cache


def _cached_id(name: str) -> str:
    """The id of the one dataset in the cache that has this short name; the name itself where there is no such one."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = [] if "/" in name else list(Path(HF_HUB_CACHE).glob(f"datasets--*--{name}"))
    return found[0].name.removeprefix("datasets--").replace("--", "/", 1) if len(found) == 1 else name


@contextmanager
def _reported(beginning: str) -> Iterator[None]:
    """Turns what the hub's libraries raise into one DataError."""
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]
    from huggingface_hub.errors import HfHubHTTPError

    # The bases of HfHubHTTPError bring in the errors of the HTTP library, which differs between versions of the hub's.
    try:
        yield
    except (OSError, ValueError, RuntimeError, DatasetsError, *HfHubHTTPError.__bases__) as error:
        kinds = " ".join([kind.__name__ for kind in type(error).__mro__] + [str(error)])
        words = {"error": shortened(str(error), 160), "log_in": f"{program()} config set {TOKEN}"}
        reason = next(text for pattern, text in _REASONS if re.search(pattern, kinds))
        raise DataError(f"{beginning}; {reason.format(**words)}") from None
