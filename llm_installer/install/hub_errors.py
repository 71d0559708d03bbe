"""The errors of a hub's client, each in one sentence with what to type next."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from llm_installer.core.errors import HubError, Interrupted
from llm_installer.core.hints import program
from llm_installer.core.user_config import TOKEN
from llm_installer.install.resolve import Source

_AGAIN = "run the same command again to resume it"
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


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Turn what the hub's client raises inside into a HubError, and Ctrl-C into an Interrupted."""
    from httpx2 import HTTPError
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    words = {"id": source.id, "hub": constants.ENDPOINT, "revision": source.revision or "main"}
    words |= {"again": _AGAIN, "log_in": f"give a token with `{program()} config set {TOKEN}` or in HF_TOKEN"}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"The download of {source.id} was interrupted; {_AGAIN}", signal.SIGINT) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        unknown = f"{{hub}} answered {status} for {{id}}; {{again}}"
        raise HubError((_named(error) or BY_STATUS.get(status, unknown)).format(**words)) from error
    except HTTPError as error:
        unreachable = "{hub} cannot be reached ({why}); check the network, then {again}"
        raise HubError(unreachable.format(why=type(error).__name__, **words)) from error
    except OSError as error:
        raise HubError((_named(error) or _of_system(error)).format(why=_first_line(error), **words)) from error
    except ValueError as error:
        strange = "{hub} does not answer as a model hub does ({why}); check HF_ENDPOINT and the network, then {again}"
        raise HubError(strange.format(why=_first_line(error), **words)) from error


def _named(error: Exception) -> str:
    """The sentence of the first class of the error, from special to general, that has one."""
    return next((BY_NAME[c.__name__] for c in type(error).__mro__ if c.__name__ in BY_NAME), "")


def _of_system(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "The disk filled up during the download of {id}; free some space, then {again}"
    return "The download of {id} failed ({why}); {again}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
