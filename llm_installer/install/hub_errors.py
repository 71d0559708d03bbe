"""The errors of a hub's client, each in one sentence with what to type next."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_installer.core.errors import HubError, Interrupted
from llm_installer.core.hints import program
from llm_installer.core.user_config import TOKEN
from llm_installer.install.resolve import Source

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_GATED = (
    "{id} is gated: accept its licence on {hub}/{id}, then {log_in} (one that may read gated models), "
    "and run the same command again"
)

BY_NAME = {
    "GatedRepoError": _GATED,
    "RevisionNotFoundError": "{id} has no revision {revision}; see its branches and tags on {hub}/{id}/tree/main",
    "DisabledRepoError": "{id} has been disabled on {hub} and can no longer be downloaded; choose another model",
    "RepositoryNotFoundError": "{hub} has no model {id}, or it is private; check the spelling, or {log_in}",
    "RemoteEntryNotFoundError": "{id} lacks a file that {hub} lists; try again later, or another --revision",
    "OfflineModeIsEnabled": "{id} cannot be downloaded while HF_HUB_OFFLINE is set; unset it, or install from a folder",
}
"""The client's exceptions by name, the more special before the more general."""

BY_STATUS = {
    401: "{hub} refused your token; check it, or {log_in}",
    403: _GATED,
    429: "{hub} refuses more requests for now; wait a few minutes, then {again}",
}


@dataclass(frozen=True)
class Sentences:
    """What is said when a hub and its client are used for something."""

    what: str
    """What is done, as `The download of ORG/NAME`."""
    again: str
    """What to do once it has broken off."""
    by_name: Mapping[str, str]
    by_status: Mapping[int, str]
    by_words: Mapping[str, str]
    """By a part of what the hub itself says, in small letters: the first that is found comes before a status."""
    log_in: str = f"give a token with `{{program}} config set {TOKEN}` or in HF_TOKEN"


DOWNLOAD = Sentences("The download of {id}", "run the same command again to resume it", BY_NAME, BY_STATUS, {})


@contextmanager
def explained(source: Source, say: Sentences = DOWNLOAD) -> Iterator[None]:
    """Turn what the hub's client raises inside into a HubError, and Ctrl-C into an Interrupted."""
    from httpx2 import HTTPError
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    words = {"id": source.id, "hub": constants.ENDPOINT, "revision": source.revision or "main", "again": say.again}
    words |= {"what": say.what.format(id=source.id), "log_in": say.log_in.format(program=program())}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("{what} was interrupted; {again}".format(**words), signal.SIGINT) from None
    except HfHubHTTPError as error:
        raise HubError(_of_answer(error, say).format(**words)) from error
    except HTTPError as error:
        unreachable = "{hub} cannot be reached ({why}); check the network, then {again}"
        raise HubError(unreachable.format(why=type(error).__name__, **words)) from error
    except OSError as error:
        raise HubError((_named(error, say) or _of_system(error)).format(why=_first_line(error), **words)) from error
    except ValueError as error:
        strange = "{hub} does not answer as a model hub does ({why}); check HF_ENDPOINT and the network, then {again}"
        raise HubError(strange.format(why=_first_line(error), **words)) from error


def _of_answer(error: HfHubHTTPError, say: Sentences) -> str:
    """The sentence for an answer of the hub that is an error."""
    status, said = error.response.status_code, str(error).lower()
    by_words = next((sentence for part, sentence in say.by_words.items() if part in said), "")
    unknown = f"{{hub}} answered {status} for {{id}}; {{again}}"
    return by_words or _named(error, say) or say.by_status.get(status, unknown)


def _named(error: Exception, say: Sentences) -> str:
    """The sentence of the first class of the error, from special to general, that has one."""
    return next((say.by_name[c.__name__] for c in type(error).__mro__ if c.__name__ in say.by_name), "")


def _of_system(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "{what} filled the disk; free some space, then {again}"
    return "{what} failed ({why}); {again}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
