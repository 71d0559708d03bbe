"""What a training process is started with."""

from __future__ import annotations

from llm_installer.planning.environment import environment


def test_threads_are_the_cores_and_sleep_while_they_wait() -> None:
    found = environment(3)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["OMP_WAIT_POLICY"] == "passive"
