"""What every answer of a studio needs: its settings, its database, its data folder, and the news of its jobs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from llm_installer.studio.api.tail import Tail
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store.opening import Store
from llm_installer.studio.webhooks.addresses import Addresses, public
from llm_installer.studio.webhooks.signing import Signer


@dataclass(frozen=True)
class Studio:
    """An open studio. Routers are functions of it: `def router_of(studio: Studio) -> APIRouter`."""

    settings: StudioRequest
    store: Store
    folder: Path
    """LLM_HOME/studio: the database, files/, blobs/, jobs/."""
    address: str
    """How this machine reaches it, such as http://127.0.0.1:7860."""
    tail: Tail
    """Tells streams that a job has new events: `studio.tail.wake(job_id)` after the transaction that wrote them."""
    worker_key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """By which the worker of this machine is known while this server lives; handed to it in its environment."""
    addresses: Addresses = public
    """Decides where messages of webhooks may go."""

    @cached_property
    def signer(self) -> Signer:
        """Signs the messages of webhooks."""
        return Signer(self.folder)

    @property
    def base(self) -> str:
        """The address that is given to others: the public one where there is one."""
        return self.settings.public_url.rstrip("/") or self.address
