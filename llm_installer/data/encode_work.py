"""Encoding shared out over processes: each is sent where the examples are, and writes its rows to files.

They are programs of their own, not forks or copies of the caller: whatever the caller is (a script without a main
guard, a notebook, a process with threads), it is never run twice.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TypeAlias

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example
from llm_installer.data.bulk import encode_batches
from llm_installer.data.encode import Encoder
from llm_installer.data.encoded import EncodedWriter
from llm_installer.data.store import ExampleView

REFUSED = "refused.jsonl"
_PAYS = 20_000
"""Examples from which on starting processes takes less time than it saves."""
_SHARD = 4_000
_MOST = 16
"""Processes; reading from one disk and each holding a tokenizer, more bring little."""
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from llm_installer.data.encode_work import work; work()"
)

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many examples of how many are done."""


@dataclass(frozen=True)
class Shard:
    """Some of the examples, and where their rows go."""

    start: int
    end: int
    folder: Path


def encode_to_folder(
    examples: ExampleView, encoder: Encoder, folder: Path, progress: Progress, processes: int | None = None
) -> None:
    """Write the rows of all examples, and which were refused, into `folder`; `processes` is chosen by default."""
    count = processes or _processes(len(examples))
    if count == 1:
        _encode(examples, 0, encoder, folder, lambda done: progress(done, len(examples)))
        return
    starts = range(0, len(examples), _SHARD)
    shards = [Shard(s, min(s + _SHARD, len(examples)), folder / f"shard-{s}") for s in starts]
    job = folder / "job.pickle"
    job.write_bytes(pickle.dumps((examples, encoder)))
    _share_out(shards, job, count, progress)
    job.unlink()
    _join(shards, folder)


def work() -> None:
    """The other processes: read what to encode, then encode shard after shard, until they are ended."""
    # Ctrl-C reaches the caller too, who ends this process; without a caller there is nobody to write to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Rows make no cycles, and looking for some every 700 objects takes a fifth of the time.
    gc.set_threshold(200_000)
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        examples, encoder = pickle.loads(Path(sys.argv[2]).read_bytes())
        while shard := pickle.load(orders):
            try:
                shard.folder.mkdir()
                chosen = ExampleView(examples.store, examples.indices[shard.start : shard.end])
                _encode(chosen, shard.start, encoder, shard.folder, lambda done: None)
                _send(answers, shard.end - shard.start)
            except OSError as error:
                _send(answers, error)
    except (EOFError, BrokenPipeError):
        os._exit(1)


def _encode(
    examples: Sequence[Example], first: int, encoder: Encoder, folder: Path, report: Callable[[int], None]
) -> None:
    """Encode in this process; the first example has this number."""
    writer = EncodedWriter(folder)
    done = 0

    def numbered() -> Iterator[tuple[int, Example]]:
        nonlocal done
        for done, example in enumerate(examples):
            yield first + done, example

    with (folder / REFUSED).open("w", encoding="utf-8") as refused:
        for rows, left_out in encode_batches(numbered(), encoder):
            writer.append(rows)
            refused.writelines(json.dumps([r.index, r.reason]) + "\n" for r in left_out)
            report(done + 1)
    writer.close()


def _share_out(shards: Sequence[Shard], job: Path, count: int, progress: Progress) -> None:
    """Every shard to whichever process is free."""
    total, done = shards[-1].end, 0
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()

    def encode(shard: Shard) -> int:
        process = idle.get()
        try:
            return _ask(process, shard)
        finally:
            idle.put(process)

    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(job)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(count)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        for process in processes:
            idle.put(process)
            # Before the threads are waited for: they end with the processes that they wait for.
            stack.callback(process.kill)
        for finished in pool.map(encode, shards):
            done += finished
            progress(done, total)


def _ask(process: subprocess.Popen[bytes], shard: Shard) -> int:
    """Have a shard encoded: its examples. Raises the OSError that the process met."""
    assert process.stdin is not None and process.stdout is not None
    try:
        _send(process.stdin, shard)
        answer = pickle.load(process.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        raise DataError(
            f"A process that encoded the data ended (exit code {process.wait()}; -9 means too little memory); "
            f"close other programs and run the command again"
        ) from None
    if isinstance(answer, OSError):
        raise answer
    return int(answer)


def _join(shards: Sequence[Shard], folder: Path) -> None:
    """One file of each kind from those of all shards, in order."""
    writer = EncodedWriter(folder)
    with (folder / REFUSED).open("wb") as refused:
        for shard in shards:
            writer.append_folder(shard.folder)
            refused.write((shard.folder / REFUSED).read_bytes())
            shutil.rmtree(shard.folder)
    writer.close()


def _processes(examples: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST) if examples >= _PAYS else 1


def _send(pipe: IO[bytes], what: object) -> None:
    pickle.dump(what, pipe)
    pipe.flush()
