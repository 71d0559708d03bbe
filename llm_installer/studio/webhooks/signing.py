"""Signatures as Standard Webhooks has them, with secrets that no database keeps.

The secret of a hook is made from its id and a key in a file of the data folder, so it can be shown when the hook is
made and used for every message, and whoever reads the database or a copy of it has none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

FILE = "webhooks.key"
_BYTES = 32


class Signer:
    """Signs for the hooks that were made with the key of one data folder."""

    def __init__(self, folder: Path) -> None:
        self._key = _key(folder / FILE)

    @property
    def name(self) -> str:
        """Which key it is, without saying it."""
        return hashlib.sha256(b"name of " + self._key).hexdigest()[:16]

    def secret(self, hook_id: str) -> str:
        """The secret of a hook, as its receiver keeps it: whsec_..."""
        return f"whsec_{base64.b64encode(self._raw(hook_id)).decode()}"

    def headers(self, hook_id: str, message: str, seconds: int, body: bytes) -> dict[str, str]:
        """webhook-id, webhook-timestamp and webhook-signature of a message."""
        signed = signature(self._raw(hook_id), message, seconds, body)
        return {"webhook-id": message, "webhook-timestamp": str(seconds), "webhook-signature": signed}

    def _raw(self, hook_id: str) -> bytes:
        return hmac.new(self._key, hook_id.encode(), hashlib.sha256).digest()


def signature(secret: bytes, message: str, seconds: int, body: bytes) -> str:
    """HMAC-SHA256 of a message's id, the time at which it is sent and its body."""
    digest = hmac.new(secret, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(file: Path) -> bytes:
    """The key in a file that only this user can read; made where there is none. Raises OSError."""
    if not file.exists():
        fresh = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secrets.token_bytes(_BYTES))
        with suppress(FileExistsError):  # it is there complete, or not at all: an empty key would be everybody's
            os.link(fresh, file)
        fresh.unlink()
    return file.read_bytes()
