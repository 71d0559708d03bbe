"""The page of the audit log, the newest first."""

from __future__ import annotations

from fastapi import APIRouter, Query, Response

from llm_installer.studio.access import audit
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn

SHOWN = 100


def router_of(studio: Studio) -> APIRouter:
    """The route of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/audit")
    def look(who: str = "", before: int = Query(0, ge=0, le=1 << 62)) -> Response:
        rows = audit.listed(studio.store, who[:64], before, SHOWN + 1)
        older = rows[SHOWN - 1].id if len(rows) > SHOWN else 0
        return drawn("audit.html", here="Audit log", rows=rows[:SHOWN], name=who[:64], older=older)

    return router
