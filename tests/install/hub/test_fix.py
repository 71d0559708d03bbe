"""`fix --reinstall` of a hub model: what is right stays, what is broken is downloaded, at the commit of the install."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.core.errors import HubError
from llm_installer.core.paths import ModelDir
from llm_installer.install.fix import fix_model

Run = Callable[..., Any]


@pytest.fixture
def found(served: Any, home: Path, quick_install: Run) -> ModelDir:
    assert quick_install("org/name").code == 0
    served.log.clear()
    return ModelDir(home / "models" / "org_name")


def downloads(served: Any) -> list[str]:
    return sorted(s.path.rsplit("/", 1)[-1] for s in served.log if "/resolve/" in s.path)


@pytest.mark.parametrize("broken", [False, True])
def test_only_what_is_broken_is_downloaded(served: Any, found: ModelDir, broken: bool) -> None:
    weights = found.weights / "model.safetensors"
    right = weights.read_bytes()
    if broken:
        weights.write_bytes(right[:-1] + b"\xff")
    checks = fix_model("org/name", True, lambda _: None)
    assert all(check.ok for check in checks)
    assert ("model.safetensors" in downloads(served)) is broken
    assert weights.read_bytes() == right and weights.stat().st_nlink == 1
    assert served.log[0].path == f"/api/models/org/name/revision/{'a' * 40}", "not what the branch is now"
    assert os.listdir(found.root.parent) == ["org_name"]


def test_without_the_hub_the_model_stays_as_it_was(served: Any, found: ModelDir) -> None:
    weights = found.weights / "model.safetensors"
    weights.write_bytes(b"broken")
    served.refuse = (500, "", "")
    with pytest.raises(HubError, match="answered 500"):
        fix_model("org_name", True, lambda _: None)
    assert weights.read_bytes() == b"broken" and found.info.is_file()
    served.refuse = None
    assert all(check.ok for check in fix_model("org_name", True, lambda _: None))


def test_a_damaged_record_reaches_no_file_elsewhere(served: Any, found: ModelDir, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    text = found.info.read_text().replace('"model.safetensors":', f'"{tmp_path}/mine":')
    found.info.write_text(text)
    assert all(check.ok for check in fix_model("org_name", True, lambda _: None))
    assert (tmp_path / "mine").read_text() == "mine"
    assert '"model.safetensors":' in found.info.read_text()
