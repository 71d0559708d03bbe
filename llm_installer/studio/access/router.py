"""The pages of accounts, as one router: signing in, one's own account, everybody's, and the audit log."""

from __future__ import annotations

from fastapi import APIRouter

from llm_installer.studio.access import account, audit_page, people, sign_in
from llm_installer.studio.context import Studio


def router_of(studio: Studio) -> APIRouter:
    """The pages; none where there are no accounts."""
    router = APIRouter()
    for page in (sign_in, account, people, audit_page) if studio.settings.people else ():
        router.include_router(page.router_of(studio))
    return router
