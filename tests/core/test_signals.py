"""How a run is asked to end: the first signal waits for the step, a second one does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from llm_installer.core.errors import Interrupted, StoppedAtOnce
from llm_installer.core.run import signals
from llm_installer.core.run.signals import early_end, stop_requests


def test_a_second_signal_ends_at_once() -> None:
    with stop_requests() as requests:
        signal.raise_signal(signal.SIGTERM)
        assert requests.number == signal.SIGTERM
        with pytest.raises(Interrupted, match="as asked twice"):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_closed_terminal_or_a_stopped_service_sends_is_one_request(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stop_requests() as requests:
        for _ in range(3):
            signal.raise_signal(number)
            now += signals.SAME / 4
        assert requests.number == number
        now += signals.SAME
        with pytest.raises(Interrupted, match="as asked twice"):
            signal.raise_signal(number)


def test_what_another_process_was_sent_first_is_not_a_second_signal() -> None:
    """The processes of a run agree after each step, and one may hear of a signal before it is sent its own."""
    with stop_requests() as requests:
        requests.hear(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted, match="as asked twice"):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_parent_with_many_threads_is_gone_once() -> None:
    """Linux tells of each thread that ends, and they end one after the other."""
    child = (
        "import os, signal, time\n"
        "from llm_installer.distributed.parent import end_with_parent\n"
        "came = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: came.append(1))\n"
        "end_with_parent()\n"
        "os.write(1, b'ready ')\n"
        "end = time.monotonic() + 20\n"
        "while not came and time.monotonic() < end: pass\n"
        "signal.sigtimedwait([signal.SIGUSR1], 0.2)\n"  # what comes after the first one, too
        "os.write(1, str(len(came)).encode())\n"
    )
    parent = (
        "import os, subprocess, sys, threading\n"
        "for _ in range(30): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "os.environ['LLM_LAUNCH_PARENT'] = str(os.getpid())\n"
        "children = [subprocess.Popen([sys.executable, '-c', sys.argv[1]]) for _ in range(8)]\n"
        "for child in children: child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        said = running.stdout.read(len("ready ") * 8)
        running.kill()
        assert said == "ready " * 8
        assert running.stdout.read() == "1" * 8


def test_a_signal_that_comes_while_the_processes_agree_on_none_is_kept() -> None:
    with stop_requests() as requests:
        signal.raise_signal(signal.SIGTERM)
        requests.hear(0)
        assert requests.number == signal.SIGTERM


class Dying:
    """What is freed while signals come."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def free() -> None:
    Dying()


def free_with_a_callback() -> None:
    dying = threading.Event()
    watched = weakref.ref(dying, lambda _: signal.raise_signal(signal.SIGINT))
    del dying
    assert watched() is None


@pytest.mark.parametrize("lose", [free, free_with_a_callback])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_is_heard_also_where_python_forgets_what_it_raises(lose: Callable[[], None], times: int) -> None:
    went_on = 0
    with pytest.raises(StoppedAtOnce, match="as asked twice"), stop_requests() as requests:
        signal.raise_signal(signal.SIGINT)
        for _ in range(times):
            lose()
            went_on += 1
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.001)
    assert went_on and requests.number == signal.SIGINT


def test_what_else_python_forgets_is_printed_as_ever() -> None:
    class Wrong:
        def __del__(self) -> None:
            raise ValueError("not a signal")

    seen: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda found: seen.append(found.exc_type)
    try:
        with stop_requests():
            Wrong()
        assert seen == [ValueError] and sys.unraisablehook != before
    finally:
        sys.unraisablehook = before


def test_work_that_may_be_left_out_is_left_out_where_its_signal_was_forgotten() -> None:
    with early_end(0) as early:
        assert early.attempt(lambda: (free(), 1)[1], 2) in (1, 2)
        assert early.stopped and early.attempt(lambda: 1, 2) == 2
