"""parallel_map: a function applied to tasks by several processes, each sent the function once and then its tasks.

The processes are programs of their own, not forks or copies of the caller: whatever the caller is (a script without a
main guard, a notebook, a process with threads), it is never run again. docs/decisions/worker-pool.md says why this is
not loky.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import IO, TypeAlias, TypeVar, cast

from llm_installer.core.errors import DataError
from llm_installer.core.garbage import RARELY

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Process: TypeAlias = "subprocess.Popen[bytes]"

_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from llm_installer.core.workers import serve; serve()"
)
_PIPE_BYTES = 1 << 20


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(job: Callable[[Task], Answer], tasks: Iterable[Task], count: int) -> Generator[Answer, None, None]:
    """`job(task)` for each task, in the order of the tasks, by `count` processes; at most `count` + 2 are taken ahead.

    Job, tasks and answers are pickled. Raises the OSError that `job` raised, and DataError when a process ended.
    Closing the iterator ends the processes.
    """
    job_bytes = pickle.dumps(job)
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
    idle: SimpleQueue[Process] = SimpleQueue()

    def send_job(process: Process) -> None:
        try:
            with suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.write(job_bytes)
                process.stdin.flush()
        finally:
            idle.put(process)

    def ask(task: Task) -> Answer:
        process = idle.get()
        try:
            return cast(Answer, _ask(process, task))
        finally:
            idle.put(process)

    with ExitStack() as stack:
        processes = [stack.enter_context(_started(command)) for _ in range(count)]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        for process in processes:
            # Runs before the pool waits for its threads, each of which waits for an answer of a process.
            stack.callback(process.kill)
            pool.submit(send_job, process)
        waiting: deque[Future[Answer]] = deque()
        for task in tasks:
            waiting.append(pool.submit(ask, task))
            if len(waiting) > count + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def serve() -> None:
    """The program of a worker process: reads the job, then answers task after task until the caller ends."""
    # Ctrl-C reaches the caller too, which ends this process. Without a caller, reading or writing fails, and it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.set_threshold(RARELY)
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        job = pickle.load(tasks)
        while True:
            task = pickle.load(tasks)
            try:
                _send(answers, job(task))
            except BrokenPipeError:
                raise
            except OSError as error:
                _send(answers, error)
    except (EOFError, BrokenPipeError):
        os._exit(1)


@contextmanager
def _started(command: list[str]) -> Iterator[Process]:
    more = {"pipesize": _PIPE_BYTES} if sys.platform == "linux" else {}
    with ExitStack() as stack:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload]
        stack.callback(process.wait)
        for pipe in (process.stdout, process.stdin):
            stack.callback(_close, pipe)
        yield process


def _close(pipe: IO[bytes]) -> None:
    # An unfinished task is still in the buffer, and nobody is left to read it.
    with suppress(BrokenPipeError):
        pipe.close()


def _ask(process: Process, task: object) -> object:
    """The answer of a process to a task. Raises the OSError that it raised, and DataError when it ended."""
    assert process.stdin is not None and process.stdout is not None
    try:
        _send(process.stdin, task)
        answer = pickle.load(process.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        raise DataError(
            f"A process that worked on the data ended (exit code {process.wait()}; -9 means too little memory); "
            f"close other programs and run the command again"
        ) from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _send(pipe: IO[bytes], what: object) -> None:
    pickle.dump(what, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()
