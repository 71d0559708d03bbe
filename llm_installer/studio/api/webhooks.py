"""Webhooks over HTTP: make one, see how it does, switch it on again, delete it."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from llm_installer.server.problems import invalid
from llm_installer.studio.access.rights import DO
from llm_installer.studio.access.who import WHO
from llm_installer.studio.api.shapes import when
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.states import STATES
from llm_installer.studio.store import acting, hooks
from llm_installer.studio.store.tables import Hook


class Asked(BaseModel):
    """A new webhook."""

    url: str = Field(min_length=1, max_length=2000)
    states: list[str] = []
    """The states that it is told of; all where it is empty."""


def router_of(studio: Studio) -> APIRouter:
    """The routes below /api/webhooks."""
    router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])

    @router.post("", status_code=201)
    def create(request: Request, asked: Asked) -> Json:
        """Make a webhook. The answer alone has its secret, by which messages can be verified."""
        if strange := set(asked.states) - set(STATES):
            raise invalid(f"There is no state {sorted(strange)[0]!r}", "states")
        studio.addresses(asked.url)
        hook = hooks.create(studio.store, asked.url, asked.states, acting.owner(), studio.signer.name)
        request.state.about = f"{hook.id} {_place(hook.url)}"
        return {**_json(hook, 0), "secret": studio.signer.secret(hook.id)}

    @router.get("")
    def listed() -> Json:
        """Webhooks, with how many messages each has not accepted."""
        with studio.store.reading() as session:
            return {"data": [_json(hook, hooks.waiting(session, hook.id)) for hook in hooks.listed(session)]}

    @router.get("/{hook_id}")
    def one(hook_id: str) -> Json:
        """A webhook."""
        with studio.store.reading() as session:
            return _json(hooks.find(session, hook_id), hooks.waiting(session, hook_id))

    @router.post("/{hook_id}/on")
    def on(hook_id: str) -> Json:
        """Send to it again, first what it has not had."""
        hook = hooks.switch_on(studio.store, hook_id)
        with studio.store.reading() as session:
            return _json(hook, hooks.waiting(session, hook_id))

    @router.delete("/{hook_id}")
    def remove(hook_id: str) -> Json:
        """Delete a webhook."""
        hooks.remove(studio.store, hook_id)
        return {"id": hook_id, "deleted": True}

    return router


def _place(url: str) -> str:
    """What may be known of an address by who may not change it: the rest can be a secret of its receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _json(hook: Hook, waiting: int) -> Json:
    who = WHO.get()
    all_of_it = who is None or who.may(DO)
    return {
        "id": hook.id,
        "url": hook.url if all_of_it else _place(hook.url),
        "states": hook.states.get("states"),
        "created_at": when(hook.created_at),
        "on": not hook.off,
        "why_off": (hook.off or None) if all_of_it else None,  # it may name the address
        "failures": hook.failures,
        "waiting": waiting,
    }
