"""What the user has set for all models: a small JSON object in ~/.config/llm-installer; `config` reads and writes it.

What a value may be is said in planning/preferences.py; here it is a text by the name of a preference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llm_installer.core.errors import UsageError
from llm_installer.core.files import unwritable, write_json
from llm_installer.core.json_file import read_object, valued
from llm_installer.core.text import short_path, steering

AGAIN = "correct it, or delete it to begin with the defaults"
TOKEN, HOME = "hub-token", "home"
WHOLE = "a folder with its whole path is needed, such as /data/LLM"
_LONGEST = 4096


def user_config_file() -> Path:
    """$XDG_CONFIG_HOME/llm-installer/config.json, or the one below ~/.config."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))  # one that is not absolute does not count, as XDG says
    return (given if given.is_absolute() else Path.home() / ".config") / "llm-installer" / "config.json"


def whole_path(value: str) -> bool:
    """Whether a folder is named wherever one is, and not beside the current folder."""
    # Whose home ~somebody is a shell has to say.
    return not steering(value) and (value == "~" or value.startswith(("/", "~/")) or value[1:2] == ":")


def read_user_config() -> dict[str, str]:
    """The preferences that are set, by name; empty where there is no file. Raises UsageError where it is damaged."""
    file = user_config_file()
    if not os.path.lexists(file):
        return {}
    if not file.exists():
        raise UsageError(f"{short_path(file)} is a link to what is not there; {AGAIN}")
    found = {}
    for name, value in read_object(file, UsageError, AGAIN).items():
        if type(value) not in (str, int) or not 0 < len(str(value)) <= _LONGEST:
            shown = "that" if name == TOKEN else valued(value)
            raise UsageError(f"{name!r} in {short_path(file)} must be a text, not {shown}; {AGAIN}")
        found[name] = str(value)
    if not whole_path(found.get(HOME, "/")):
        raise UsageError(f"{short_path(file)}: {HOME}={found[HOME]!r}: {WHOLE}")
    return found


def write_user_config(values: Mapping[str, str]) -> None:
    """Replace the preferences, for nobody else to read, as a token may be among them. Raises DiskError."""
    file = user_config_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(file, error) from None
    write_json(file, dict(values), mode=0o600)


def offer_token() -> None:
    """Let the hub's client find the token that is set here; one in HF_TOKEN wins."""
    if "HF_TOKEN" not in os.environ and (token := read_user_config().get(TOKEN)):
        os.environ["HF_TOKEN"] = token
