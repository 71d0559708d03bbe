"""The story of `studio --check`: this user's database and files are looked at, also while a studio runs on them."""

from __future__ import annotations

from llm_installer.core.errors import InstallerError
from llm_installer.core.hints import program
from llm_installer.core.text import short_path
from llm_installer.studio.store import checker
from llm_installer.studio.store.opening import open_store
from llm_installer.studio.story import FILE, data_folder


def checked(database: str) -> tuple[list[str], str]:
    """(what is wrong, a sentence about all of it). `database` is an address; empty for the file in the data folder.
    Raises InstallerError where there is none."""
    folder = data_folder()
    if not database and not (folder / FILE).is_file():
        raise InstallerError(f"There is no studio in {short_path(folder)} yet; begin one with: {program()} studio")
    store = open_store(database or folder / FILE)
    try:
        found = checker.check(store, folder)
        return found, checker.said(store, found)
    finally:
        store.close()
