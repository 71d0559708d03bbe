"""What this process holds of the machine's memory, as Linux counts it; elsewhere only the peak is known."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Bytes that this process holds now; 0 where the system does not say."""
    return _status("VmRSS") if _STATUS.exists() else 0


def peak_resident_bytes() -> int:
    """The most bytes that this process held at once since it began, or since forget_peak_resident."""
    if _STATUS.exists():
        return _status("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_resident() -> bool:
    """Let the peak start from what is held now; False where the system cannot."""
    try:
        _REFERENCES.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes (proc(5) counts in KiB)."""
    lines = (line.split() for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == f"{name}:"), 0)
