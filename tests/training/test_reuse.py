"""Freed memory is not faulted in again."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux counts them")
def test_freed_memory_is_not_faulted_in_again() -> None:
    code = (
        "import resource as r\nimport sys\nfrom llm_installer.training.reuse import keep_freed_memory as keep\n"
        "assert sys.argv[1] == 'no' or keep()\n"
        "for i in range(40):\n  b = bytearray(b'1') * (64 << 20); del b\n"
        "print(r.getrusage(r.RUSAGE_SELF).ru_minflt)"
    )
    faults = [
        int(subprocess.run([sys.executable, "-c", code, keep], capture_output=True, check=True).stdout)
        for keep in ("no", "yes")
    ]
    assert faults[1] * 5 < faults[0]
