"""The thread that sends what is due to hooks: to each hook one message after the other, to several at the same time.

A message may come twice, where the studio ended before it knew that the first was accepted; its id is the same then.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from urllib.parse import urlsplit

import httpx2
from sqlalchemy.exc import OperationalError

from llm_installer.core.text import shortened
from llm_installer.studio.store import hooks
from llm_installer.studio.store.hooks import Due
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import Refused
from llm_installer.studio.webhooks.addresses import Addresses
from llm_installer.studio.webhooks.signing import Signer

EVERY = 1.0
"""Seconds between two looks for what is due."""
AT_ONCE = 4
"""Hooks that are sent to at the same time."""
TIMEOUT = 10.0
"""Seconds that a receiver has."""
MOST = 64 << 10
"""Bytes of an answer that are read."""
_GONE = 410
_AGENT = "LLM-Installer-Studio"


def about(seconds: float) -> float:
    """A little more or less, so that not all come back at the same moment."""
    return seconds * random.uniform(0.9, 1.1)


class Sender:
    """Sends, from `start` until `stop`."""

    def __init__(
        self, store: Store, signer: Signer, addresses: Addresses, spread: Callable[[float], float] = about
    ) -> None:
        self._store, self._signer, self._addresses, self._spread = store, signer, addresses, spread
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being sent has its time."""
        self._ending.set()
        self._thread.join(TIMEOUT)

    def _keep(self) -> None:
        while not self._ending.wait(EVERY):
            try:
                self.look()
            except OperationalError as error:  # the database is away; it may come back
                logging.getLogger(__name__).warning("Webhooks wait: %s", shortened(str(error.orig), 300))

    def look(self) -> int:
        """Send what is due now; returns how many messages were tried."""
        found = sorted(hooks.due(self._store, self._signer.name), key=lambda one: one.hook_id)
        groups = [list(group) for _, group in groupby(found, key=lambda one: one.hook_id)]
        if not groups:
            return 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(self._send_all, groups))

    def _send_all(self, found: Sequence[Due]) -> int:
        """To one hook; a failure ends it, for the next one would fail as well."""
        for count, one in enumerate(found, start=1):
            if self._ending.is_set() or not self._sent(one):
                return count
        return len(found)

    def _sent(self, one: Due) -> bool:
        try:
            address = self._addresses(one.url)
            code = self._posted(one, address)
        except Refused as why:
            return self._failed(one, str(why))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return self._failed(one, f"{type(error).__name__} {error}".strip())
        if 200 <= code < 300:
            hooks.accepted(self._store, one)
            return True
        return self._failed(one, f"it answered with status {code}", gone=code == _GONE)

    def _posted(self, one: Due, address: str) -> int:
        """The status of the answer. The connection goes to the address that was checked, whatever its name means by
        now, and to no other that the answer names."""
        url, body = httpx2.URL(one.url), one.body.encode()
        with self._store.reading() as session:
            seconds = int(self._store.now(session).timestamp())
        headers = self._signer.headers(one.hook_id, one.message, seconds, body)
        headers |= {"host": urlsplit(one.url).netloc, "content-type": "application/json", "user-agent": _AGENT}
        with (
            httpx2.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", url.copy_with(host=address), content=body, headers=headers,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):  # fmt: skip
            read = 0
            for piece in answer.iter_raw(4096):
                read += len(piece)
                if read > MOST:
                    break
            return int(answer.status_code)

    def _failed(self, one: Due, why: str, gone: bool = False) -> bool:
        said = hooks.failed(self._store, one, shortened(why, 300), self._spread, gone)
        if said:
            logging.getLogger(__name__).warning("Webhook %s: %s", one.hook_id, said)
        return False
