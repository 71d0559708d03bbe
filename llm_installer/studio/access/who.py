"""Who asks: known from the beginning of a request to its end, in whichever thread it is answered."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from llm_installer.studio.access.rights import ADMIN, LOOK_EVERYWHERE, may
from llm_installer.studio.store.acting import Acting


@dataclass(frozen=True)
class Who:
    """Somebody who has shown who they are."""

    id: str
    name: str
    role: str
    scope: str = ""
    """Of their key; empty for a person in a browser."""
    how: str = ""
    """By which session or key, as the audit log says it."""
    form_token: str = ""
    """What their forms must hold; empty where no cookie speaks for them."""
    session: str = ""
    """The hash of what their cookie holds."""
    job: str = ""
    """The one job that a token of a job is for."""

    def may(self, right: str) -> bool:
        """Whether they may do something."""
        return may(right, self.role, self.scope)

    @property
    def acting(self) -> Acting:
        """What they see of the database."""
        return Acting(self.id, self.may(LOOK_EVERYWHERE) or bool(self.job), self.role != ADMIN)


WHO: ContextVar[Who | None] = ContextVar("studio_who", default=None)
"""None where there are no accounts, and for who has not signed in."""


def whoever() -> Who:
    """Who asks; only where the gate has let in nobody else."""
    found = WHO.get()
    assert found is not None
    return found
