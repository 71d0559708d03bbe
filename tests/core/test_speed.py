"""What a run says about its own speed."""

from __future__ import annotations

import time

import pytest

from llm_installer.core.speed import Speed, timed

SPEED = Speed(
    1234.5,
    0.414,
    "this CPU's measured bfloat16 peak",
    2**30,
    3 * 2**29,
    {"train": 90.4, "load": 0.1, "rehearse": 3.2, "encode": 2.0},
)


def test_the_closing_line() -> None:
    assert SPEED.said() == (
        "Speed: 1,234 tokens/s, MFU 41% (of this CPU's measured bfloat16 peak), peak memory 1.0 GiB "
        "(1.5 GiB predicted)."
    )


def test_what_is_unknown_is_not_said() -> None:
    found = Speed(10.0, None, "", 2**29, 0, {})
    assert found.said() == "Speed: 10 tokens/s, peak memory 512 MiB."
    assert found.scalars() == {"speed/tokens_per_second": 10.0}
    assert Speed(10.0, None, "", 0, 0, {}).said() == "Speed: 10 tokens/s."


def test_files_keep_their_keys() -> None:
    saved = SPEED.to_json()
    assert list(saved) == [
        "tokens_per_second", "share_of_limit", "limit", "peak_bytes", "predicted_bytes", "phases",
    ]  # fmt: skip
    assert (saved["share_of_limit"], saved["phases"]) == (0.414, SPEED.phases)


def test_phases_are_curves() -> None:
    assert SPEED.scalars()["phase_seconds/train"] == 90.4
    assert SPEED.scalars()["phase_seconds/memory_probe"] == 3.2
    assert SPEED.scalars()["speed/mfu"] == 0.414


def test_a_phase_grows_with_each_time_even_where_it_fails() -> None:
    phases: dict[str, float] = {"save": 5.0}
    began = time.monotonic()
    with pytest.raises(OSError), timed(phases, "save"):
        raise OSError
    assert 5.0 <= phases["save"] <= 5.0 + time.monotonic() - began
