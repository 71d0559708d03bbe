"""How a run is asked to end: the first signal waits for the step, a second one does not."""

from __future__ import annotations

import signal

import pytest

from llm_installer.core.errors import Interrupted
from llm_installer.core.run.signals import stop_requests


def test_a_second_signal_ends_at_once() -> None:
    with stop_requests() as requests:
        signal.raise_signal(signal.SIGTERM)
        assert requests.number == signal.SIGTERM
        with pytest.raises(Interrupted, match="as asked twice"):
            signal.raise_signal(signal.SIGINT)


def test_what_another_process_was_sent_first_is_not_a_second_signal() -> None:
    """The processes of a run agree after each step, and one may hear of a signal before it is sent its own."""
    with stop_requests() as requests:
        requests.hear(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="as asked twice"):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_comes_while_the_processes_agree_on_none_is_kept() -> None:
    with stop_requests() as requests:
        signal.raise_signal(signal.SIGTERM)
        requests.hear(0)
        assert requests.number == signal.SIGTERM
