"""Encoding by several processes: each is told where the examples are, and writes its rows to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llm_installer.core.examples import Example
from llm_installer.core.voice import Progress
from llm_installer.core.workers import cores, parallel_map
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import BatchEncoder
from llm_installer.data.encoding.encoded import EncodedWriter
from llm_installer.data.store.arrow import ExampleView

REFUSED = "refused.jsonl"
_PAYS = 20_000
"""Examples above which starting processes takes less time than it saves."""
_SHARD = 4_000
_MOST = 16
"""Processes; they read from one disk and each holds a tokenizer, so more bring little."""


@dataclass(frozen=True)
class Shard:
    """Some of the examples, by index, and where their rows go."""

    start: int
    end: int
    folder: Path


def encode_to_folder(
    examples: ExampleView, encoder: Encoder, folder: Path, progress: Progress, processes: int | None = None
) -> None:
    """Write the rows of all examples, and which were refused, into `folder`; `processes` is chosen by default."""
    total = len(examples)
    count = processes or (min(cores(), _MOST) if total >= _PAYS else 1)
    if count == 1:
        _encode(examples, 0, BatchEncoder(encoder), folder, lambda done: progress(done, total))
        return
    shards = [Shard(s, min(s + _SHARD, total), folder / f"shard-{s}") for s in range(0, total, _SHARD)]
    with closing(parallel_map(partial(_encode_shard, examples, BatchEncoder(encoder)), shards, count)) as ends:
        for end in ends:
            progress(end, total)
    _join(shards, folder)


def _encode_shard(examples: ExampleView, batch_encoder: BatchEncoder, shard: Shard) -> int:
    """In another process: write the rows of a shard into its folder. Returns where the shard ends."""
    shard.folder.mkdir()
    chosen = ExampleView(examples.store, examples.indices[shard.start : shard.end])
    _encode(chosen, shard.start, batch_encoder, shard.folder, lambda done: None)
    return shard.end


def _encode(
    examples: Sequence[Example], first: int, batch_encoder: BatchEncoder, folder: Path, report: Callable[[int], None]
) -> None:
    """Encode in this process; `first` is the index of the first example."""
    writer = EncodedWriter(folder)
    done = 0

    def numbered() -> Iterator[tuple[int, Example]]:
        nonlocal done
        for done, example in enumerate(examples):
            yield first + done, example

    with (folder / REFUSED).open("w", encoding="utf-8") as refused:
        for rows, skipped in batch_encoder.batches(numbered()):
            writer.append(rows)
            refused.writelines(json.dumps([r.index, r.reason, r.partly]) + "\n" for r in skipped)
            report(done + 1)
    writer.close()


def _join(shards: Sequence[Shard], folder: Path) -> None:
    """Join the files of all shards, in order."""
    writer = EncodedWriter(folder)
    with (folder / REFUSED).open("wb") as refused:
        for shard in shards:
            writer.append_folder(shard.folder)
            refused.write((shard.folder / REFUSED).read_bytes())
            shutil.rmtree(shard.folder)
    writer.close()
