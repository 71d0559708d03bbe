"""Work shared out over processes: each is told once what to do, then sent task after task.

They are programs of their own, not forks or copies of the caller: whatever the caller is (a script without a main
guard, a notebook, a process with threads), it is never run twice.
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
from typing import IO, Any, TypeAlias, TypeVar, cast

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
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_out(job: Callable[[Task], Answer], tasks: Iterable[Task], count: int) -> Generator[Answer, None, None]:
    """What `job` answers to each task, in their order, by `count` processes; only a few tasks are taken in advance.

    Job, tasks and answers are pickled. Raises the OSError that a process met, and DataError when one ended. Closing
    the iterator ends the processes.
    """
    told = pickle.dumps(job)
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
    idle: SimpleQueue[Process] = SimpleQueue()

    def tell(process: Process) -> None:
        try:
            with suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.write(told)
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
            # Before the threads are waited for: they end with the processes that they wait for.
            stack.callback(process.kill)
            pool.submit(tell, process)
        waiting: deque[Future[Answer]] = deque()
        for task in tasks:
            waiting.append(pool.submit(ask, task))
            if len(waiting) > count + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def serve() -> None:
    """The other processes: read what to do, then answer task after task, until they are ended."""
    # Ctrl-C reaches the caller too, who ends this process; without a caller there is nobody to write to.
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
    # What a task was cut off at is still in the buffer, and nobody is there to read it.
    with suppress(BrokenPipeError):
        pipe.close()


def _ask(process: Process, task: object) -> Any:
    """Have a task done. Raises the OSError that the process met."""
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
