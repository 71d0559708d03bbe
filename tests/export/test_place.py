"""Where results are put: what is said where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError
from llm_installer.export.place import OTHER_DISK, leaving
from llm_installer.install.disk import require_space


def test_two_that_make_the_same_are_told_what_it_is(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "tiny.gguf"
    with leaving(target) as part:
        part.write_bytes(b"")
        wanted = r"is making \S+/tiny\.gguf; wait for it, or choose another --out$"
        with pytest.raises(InstallerError, match=wanted), leaving(target):
            pass
        assert part.exists(), "the other one's"
    assert target.exists()


def test_too_small_a_disk_is_told_with_the_option_that_chooses_another(tmp_path: Path) -> None:
    with pytest.raises(InstallerError) as error:
        require_space(tmp_path, 10**18, OTHER_DISK)
    assert "MiB to spare" in str(error.value).replace("GiB", "MiB")
    assert str(error.value).endswith("free some space, or name with --out a folder on a larger disk")
