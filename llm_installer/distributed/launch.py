"""`--gpus`: the same command once more for each GPU, under torchrun; its signals, its exit code and its one sentence.

The processes leave notes for the one that was called: who they are, so that a signal reaches them and nobody else,
and how they ended. torchrun itself would end the others on a signal before they could save.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType

import click

from llm_installer.core.errors import InstallerError, LeftBehind, TrainingError, UsageError
from llm_installer.core.hardware import usable_cores
from llm_installer.core.run.signals import is_repeated
from llm_installer.core.text import visible
from llm_installer.distributed.parent import PARENT, end_with_parent
from llm_installer.planning.options import Options

NOTES = "LLM_LAUNCH_NOTES"
CPU_PROCESSES = "LLM_CPU_PROCESSES"
"""How many processes a machine without GPUs may run instead, to try this out."""
GRACE = 5.0
"""Seconds that are left to the processes after a second signal."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def wanted(options: Options) -> bool:
    """Whether several processes were asked for and are not there yet."""
    asked = options.gpus or any(v is not None for v in (options.nnodes, options.node_rank, options.rdzv_endpoint))
    return bool(asked) and "WORLD_SIZE" not in os.environ


def started(options: Options) -> Options:
    """The options with the processes that somebody's own torchrun has started: the plan is made for so many."""
    here, machines = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
    if here * machines == 1:
        return options
    return replace(
        options, gpus=options.gpus or str(here), nnodes=options.nnodes or (machines if machines > 1 else None)
    )


def devices() -> int:
    """What processes can be put on here."""
    import torch

    return torch.cuda.device_count() or int(os.environ.get(CPU_PROCESSES, "0"))


def per_machine(options: Options, found: int) -> int:
    """Processes on this machine, where so many devices were found. Raises UsageError for what cannot be."""
    asked = options.gpus or "all"
    if asked != "all" and not (asked.isdecimal() and int(asked)):
        raise UsageError(f"--gpus {asked} is not a number of GPUs; give 1 or more, or all")
    if not found:
        raise UsageError(f"--gpus {asked}: this machine has no GPU that torch can use; leave --gpus out")
    if asked != "all" and int(asked) > found:
        raise UsageError(f"--gpus {asked} is more than this machine has; give at most {found}, or all")
    return found if asked == "all" else int(asked)


def meeting(options: Options, processes: int) -> list[str]:
    """torchrun's words for how many there are and where they meet. Raises UsageError for what does not fit together."""
    nodes, rank, place = options.nnodes or 1, options.node_rank, options.rdzv_endpoint
    words = ["--nnodes", str(nodes), "--nproc-per-node", str(processes), "--max-restarts", "0"]
    if nodes == 1:
        if place or rank:
            raise UsageError("--rdzv-endpoint and --node-rank are for several machines; say how many with --nnodes")
        # The name of this machine may lead nowhere; one machine needs none.
        return [*words, "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    if not place:
        raise UsageError(f"--nnodes {nodes} needs to know where to meet, for example: --rdzv-endpoint first-host:29400")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--rdzv-endpoint {place} is not HOST:PORT, for example: first-host:29400")
    if rank is None:
        return [*words, "--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", "llm-installer"]
    if rank >= nodes:
        raise UsageError(f"--node-rank {rank} is not one of 0 to {nodes - 1}, as --nnodes {nodes} says")
    return [*words, "--node-rank", str(rank), "--master-addr", host, "--master-port", port]


def check_processes(options: Options) -> list[str]:
    """torchrun's words for the processes that were asked for. Raises UsageError where they cannot be."""
    return meeting(options, per_machine(options, devices())) if wanted(options) else []


def launch(options: Options, arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Run this program with these arguments in every process; its exit code, which `say` is told the reason of.

    Raises InstallerError as they do.
    """
    processes = per_machine(options, devices())
    command = [
        sys.executable,
        "-m",
        "llm_installer.distributed.launch",
        *meeting(options, processes),
        "-m",
        "llm_installer",
    ]
    with tempfile.TemporaryDirectory(prefix="llm-installer-") as folder:
        notes = Path(folder)
        # An empty value counts as none, as for OpenMP itself; torchrun and accelerate would fail on it.
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // processes))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, NOTES: folder, PARENT: str(os.getpid())}
        with (notes / "torchrun.log").open("wb") as log:
            torchrun = subprocess.Popen(
                [*command, *arguments], env=environment, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        with _passing_on(torchrun, notes, processes) as asked:
            code = _wait(torchrun, notes, asked)
        return _verdict(notes, code, asked, "--debug" in arguments, say)


def _torchrun() -> None:
    """What `launch` starts: torchrun, which goes when the command goes, and whose processes go when it goes."""
    # At once: on SIGTERM it would kill after half a minute the processes that still save.
    end_with_parent(lambda: os._exit(1))
    os.environ[PARENT] = str(os.getpid())
    from torch.distributed.run import main

    main()


@contextmanager
def _passing_on(torchrun: subprocess.Popen[bytes], notes: Path, processes: int) -> Iterator[list[tuple[int, float]]]:
    """Send signals on to the processes, or to torchrun while they are not all there; collects (signal, when)."""
    asked: list[tuple[int, float]] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if asked and not is_repeated(number, now - asked[0][1]):
            return
        asked.append((number, now))
        there = _there(notes)
        for process in there if len(there) == processes else [torchrun.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    before = {n: signal.signal(n, ask) for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(torchrun: subprocess.Popen[bytes], notes: Path, asked: list[tuple[int, float]]) -> int:
    """Wait for the end; whoever is still there some seconds after a second signal is ended."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return torchrun.wait(timeout=0.5)
        if len(asked) > 1 and time.monotonic() - asked[1][1] > GRACE:
            for process in [*_there(notes), torchrun.pid]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _there(notes: Path) -> list[int]:
    """Ids of the processes that run."""
    return [int(file.stem) for file in notes.glob("*.pid")]


def _verdict(notes: Path, code: int, asked: list[tuple[int, float]], debug: bool, say: Callable[[str], None]) -> int:
    """How it ended: the first process that failed says why, for they end one after the other."""
    ends = [json.loads(file.read_text(encoding="utf-8")) for file in notes.glob("*.end")]
    said = "".join(file.read_text(errors="replace") for file in sorted(notes.glob("*.log")))
    failed = sorted((end for end in ends if end["code"]), key=lambda end: (not end["ours"], end["when"]))
    if code == 0 and not failed:
        return 0
    if failed and (failed[0]["ours"] or not asked):
        if debug or not failed[0]["ours"]:
            click.echo(visible(said, lines=True), err=True, nl=False)
        say(failed[0]["why"])
        return int(failed[0]["code"])
    if asked:
        say("Stopped.")
        return 128 + asked[0][0]
    click.echo(visible(said, lines=True), err=True, nl=False)
    raise TrainingError(
        "A process ended without an error message, perhaps for lack of memory; the lines above may say why"
    )


class Worker:
    """One of several processes, while it works: it notes who it is and how it ended. Alone it does nothing."""

    def __enter__(self) -> None:
        self.notes = Path(os.environ[NOTES]) if NOTES in os.environ else None
        if self.notes is None:
            return
        self.rank = os.environ["RANK"]
        end_with_parent()
        log = os.open(self.notes / f"process-{self.rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        os.close(log)
        (self.notes / f"{os.getpid()}.pid").touch()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.notes is None:
            return
        (self.notes / f"{os.getpid()}.pid").unlink(missing_ok=True)
        said = error.said if isinstance(error, InstallerError) else None
        ours = said is not None and not isinstance(error, LeftBehind)  # of which another process is the reason
        code = getattr(error, "exit_code", 1) if error else 0
        why = said or f"Error: Process {self.rank} failed: {kind.__name__ if kind else ''}: {error}"
        end = {"code": code, "why": why, "ours": ours, "when": time.time()}
        fresh = self.notes / f"{self.rank}.new"
        with suppress(FileNotFoundError):  # The command is gone, and its folder with it: nobody reads this.
            fresh.write_text(json.dumps(end), encoding="utf-8")
            fresh.rename(self.notes / f"{self.rank}.end")


if __name__ == "__main__":
    _torchrun()
