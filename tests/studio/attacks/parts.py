"""What attacks have in common: the list of them, and what several of them do."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import httpx
from sqlalchemy import select

from llm_installer.studio.store.account_tables import Account
from tests.studio.people import Person, World

Attack = Callable[[World], None]
ATTACKS: list[Attack] = []


def attack(found: Attack) -> Attack:
    """One more."""
    ATTACKS.append(found)
    return found


def attacks_of(kind: ModuleType) -> list[Attack]:
    """Those of a module, as they stand there."""
    return [one for one in ATTACKS if one.__module__ == kind.__name__]


def told(world: World, **headers: str) -> int:
    with world.with_key(reading_key(world)) as program:
        return program.get("/api/jobs", headers=headers).status_code


def reading_key(world: World) -> str:
    """One of ada's, made once."""
    if "reader" not in world.people:
        world.people["reader"] = Person(world.people["ada"].key("read"), world.client())
    return world.people["reader"].name


def filled(path: str, name: str) -> str:
    return re.sub(r"\{[^}]+\}", name, path)


def switch(world: World, name: str, role: str, off: str = "") -> httpx.Response:
    with world.studio.store.reading() as session:
        found = session.scalar(select(Account).where(Account.name == name))
    assert found
    return world.people["root"].post(f"/people/{found.id}", {"role": role, "off": off})
