"""What a user may set once for all models: each is a row, with where it may come from and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import suggest
from llm_installer.core.text import short_path, steering
from llm_installer.core.user_config import HOME, TOKEN, WHOLE, user_config_file, whole_path
from llm_installer.planning.options import Options
from llm_installer.planning.settings import checked

ENVIRONMENT, FILE, LOGIN, DEFAULT = "environment", "file", "login", "default"
"""Where a value can come from beside a flag, the stronger first; LOGIN is the hub's own client."""
_SHOWN = 4
"""Characters of a token at either end that may be seen."""


@dataclass(frozen=True)
class Preference:
    """One thing to set."""

    name: str
    about: str
    variable: str
    """The environment variable that wins over the file."""
    default: str
    check: Callable[[str], str]
    """The value as it is kept. Raises UsageError for one that cannot be."""
    field: str = ""
    """The field of Options that a flag sets for one run; empty where there is none."""
    synonyms: tuple[str, ...] = ()
    secret: bool = False


@dataclass(frozen=True)
class Found:
    """A preference with its value, and where that comes from."""

    preference: Preference
    value: str
    """Empty where there is none."""
    source: str
    """ENVIRONMENT, FILE, LOGIN or DEFAULT."""

    @property
    def shown(self) -> str:
        """The value as it may be seen: of a secret its ends, and nothing of a short one."""
        if not self.preference.secret or not self.value:
            return self.value
        if len(self.value) < 4 * _SHOWN:
            return "(hidden)"
        return f"{self.value[:_SHOWN]}...{self.value[-_SHOWN:]}"

    @property
    def origin(self) -> str:
        """Where it comes from, in a word or two."""
        words = {ENVIRONMENT: self.preference.variable, FILE: user_config_file().name, LOGIN: "hf auth login"}
        return words.get(self.source, self.source)


def _folder(value: str) -> str:
    if not whole_path(value):
        raise UsageError(f"{HOME}={value!r}: {WHOLE}")
    return value.rstrip("/") or "/"


def _token(value: str) -> str:
    if steering(value) or " " in value or not value.isascii():
        raise UsageError("hub-token: this is no token, for there are spaces or other characters in it")
    return value


def _of_options(name: str) -> Callable[[str], str]:
    """What the command line takes for that option."""
    return lambda value: str(checked(Options, name, value, name.replace("_", "-")))


PREFERENCES = (
    Preference(HOME, "where models and caches are kept", "LLM_HOME", "~/LLM", _folder, synonyms=("llm-home",)),
    Preference("mode", "pace of a training", "LLM_MODE", Options.mode, _of_options("mode"), "mode", ("default-mode",)),
    Preference(
        TOKEN, "who you are on the hub", "HF_TOKEN", "", _token, synonyms=("token", "hf-token"), secret=True
    ),
    Preference(
        "tensorboard-port", "first port to try for TensorBoard", "LLM_TENSORBOARD_PORT", str(Options.tensorboard_port),
        _of_options("tensorboard_port"), "tensorboard_port", ("port", "ports"),
    ),
)  # fmt: skip


def preference(name: str) -> Preference:
    """The preference of this name, in any spelling. Raises UsageError where there is none."""
    word = name.strip().lower().replace("_", "-")
    for one in PREFERENCES:
        if word in (one.name, *one.synonyms):
            return one
    names = [one.name for one in PREFERENCES]
    instead = suggest(word, names) or f"; there are {', '.join(names)}"
    raise UsageError(f"There is no setting {name!r}{instead}")


def check_known(stored: Mapping[str, str]) -> None:
    """Raise UsageError for a name in the file that nothing is called, and for a value that its setting cannot have."""
    for name, value in stored.items():
        where = f"{short_path(user_config_file())}: "
        if name not in [one.name for one in PREFERENCES]:
            raise UsageError(f"{where}there is no setting {name!r}; remove that line")
        _checked(preference(name), value, FILE)


def _checked(one: Preference, value: str, source: str) -> str:
    """The value as its setting takes it. Raises UsageError that begins with the place it comes from."""
    where = one.variable if source == ENVIRONMENT else short_path(user_config_file())
    try:
        return one.check(value)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def find(one: Preference, environment: Mapping[str, str], stored: Mapping[str, str]) -> Found:
    """The value of a preference for whoever gives no flag. Raises UsageError for one that cannot be."""
    for source, value in ((ENVIRONMENT, environment.get(one.variable)), (FILE, stored.get(one.name))):
        if value:
            return Found(one, _checked(one, value, source), source)
    return Found(one, one.default, DEFAULT)
