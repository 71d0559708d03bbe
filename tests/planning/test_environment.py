"""What a training process is started with."""

from __future__ import annotations

from llm_installer.planning.environment import environment


def test_threads_are_the_cores_and_spin_shortly_on_an_idle_machine() -> None:
    found = environment(3, busy=0.1)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["GOMP_SPINCOUNT"] == "2000"
    assert "OMP_WAIT_POLICY" not in found


def test_threads_sleep_while_they_wait_where_others_work() -> None:
    found = environment(3, busy=1.2)
    assert found["OMP_WAIT_POLICY"] == "passive"
    assert "GOMP_SPINCOUNT" not in found
