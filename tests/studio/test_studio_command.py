"""The command: one studio on a data folder, on loopback alone, and what it says when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.studio.context import Studio
from llm_installer.studio.request import StudioRequest, check
from llm_installer.studio.story import opened


def test_a_second_one_on_the_same_folder_names_the_first(studio: Studio) -> None:
    with pytest.raises(InstallerError, match=studio.address), opened(StudioRequest(port=0)):
        pass
    assert studio.folder.stat().st_mode & 0o077 == 0


def test_a_folder_is_free_again_when_its_studio_ends(llm_home: Path) -> None:
    for _ in range(2):
        with opened(StudioRequest(port=0, worker=False)) as running:
            assert running.studio.folder == llm_home / "studio"


@pytest.mark.parametrize(
    "request_",
    [
        StudioRequest(public_url="http://studio.example.org"),
        StudioRequest(public_url="https://a.b/path"),
        StudioRequest(public_url="https://user:password@a.b"),
    ],
)
def test_what_it_does_not_do(request_: StudioRequest) -> None:
    with pytest.raises(UsageError):
        check(request_)
    check(StudioRequest(public_url="https://studio.example.org"))
