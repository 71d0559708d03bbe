"""uvicorn as servers of this program use it: it logs nothing, and cuts off who has not heard the end in time."""

from __future__ import annotations

import logging
import socket

import uvicorn
from starlette.types import ASGIApp

GRACE = 5
"""Seconds that clients have to hear the end."""
KEEP_ALIVE = 75
"""Seconds after which a connection that is not used is closed; longer than clients keep theirs."""


class Answering(uvicorn.Server):
    """A server of an application."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Who has not sent or read all of it in time is cut off; uvicorn would show a traceback for each."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
