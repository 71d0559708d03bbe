"""Attacks on a studio with accounts, each by real requests to a real server; none succeeds.

An attack that would succeed against a server without its lock is only listed with the lawful request beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.studio.attacks import outside, rights, sent, shown, signing_in
from tests.studio.attacks.parts import Attack, attacks_of
from tests.studio.people import World, running, until

KINDS = (outside, signing_in, rights, sent, shown)
ATTACKS = [one for kind in KINDS for one in attacks_of(kind)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("attacked")))
        with running() as found:
            yield found


@pytest.fixture
def fresh(world: World) -> World:
    """The world, with nobody waiting for an earlier attack's tries."""
    with world.studio.store.writing() as session:
        session.execute(text("DELETE FROM tries"))
    world.requests = 0
    return world


def test_there_are_as_many_as_are_said() -> None:
    assert len(ATTACKS) >= 60 and len({one.__name__ for one in ATTACKS}) == len(ATTACKS)


@pytest.mark.slow
@pytest.mark.parametrize("found", ATTACKS, ids=lambda one: one.__name__)
def test_an_attack_does_not_succeed(fresh: World, found: Attack) -> None:
    found(fresh)
    assert fresh.requests, "it was tried"


@pytest.mark.slow
def test_everybody_is_as_before(fresh: World) -> None:
    """After all of them."""
    for name in ("root", "ada", "bob", "vic"):
        assert fresh.signed_in(name).status_code == 303
    until(lambda: fresh.people["root"].get("/health").status_code == 200)
