"""What the store refuses, for whoever answers with it: api/ makes a status of HTTP of each."""

from __future__ import annotations

from llm_installer.core.errors import InstallerError


class Refused(InstallerError):
    """A request to the store that cannot be met."""

    status = 409
    code = "conflict"


class Unknown(Refused):
    """There is no such thing."""

    status = 404
    code = "not_found"


class OtherBody(Refused):
    """An idempotency key was used for another request."""

    status = 422
    code = "idempotency_key_reused"


class Stale(Refused):
    """A report comes from an attempt that no longer has the job."""

    code = "stale_attempt"


class NotAllowed(Refused):
    """The state that a job is in does not allow it."""

    code = "not_allowed"
