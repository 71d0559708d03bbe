"""A running studio with accounts, and people in it as their browsers are: a cookie, and forms with a token."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import argon2
import httpx
import pytest

from llm_installer.studio.access import passwords
from llm_installer.studio.app import ROUTERS
from llm_installer.studio.context import Studio
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.story import opened

PASSWORD = "seven canaries sing {}"
PUBLIC = "https://studio.example.org"
CSV = b"input,output\nq,a\n"


@dataclass
class Person:
    """Somebody with a browser."""

    name: str
    http: httpx.Client
    password: str = ""
    token: str = ""
    """Of their forms."""

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def post(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """Send a form as the page would."""
        headers = {"x-form-token": self.token, **more.pop("headers", {})}
        return self.http.post(path, data=data, headers=headers, **more)

    def learn_token(self) -> None:
        """Read the token of the forms from a page."""
        found = re.search(r'name="form_token" value="([0-9a-f]{40})"', self.get("/account").text)
        assert found, "the page has a form, and the form its token"
        self.token = found[1]

    def upload(self, content: bytes = CSV, name: str = "data.csv") -> str:
        answer = self.post("/v1/files", files={"file": (name, content)})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def job(self, file_id: str = "", **more: Any) -> str:
        answer = self.create(file_id or self.upload(), **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    def create(self, file_id: str, **more: Any) -> httpx.Response:
        headers = {"x-form-token": self.token, **more.pop("headers", {})}
        return self.http.post("/api/jobs", json={"model": "tiny", "file_id": file_id, **more}, headers=headers)

    def key(self, scope: str, days: int = 90) -> str:
        page = self.post("/account/keys", {"name": f"for {scope}", "scope": scope, "days": days})
        found = re.search(r"<code>(llmi-[\w-]+)</code>", page.text)
        assert found, page.text[-500:]
        return found[1]


@dataclass
class World:
    """A studio and everybody who has to do with it."""

    studio: Studio
    first_link: str
    people: dict[str, Person] = field(default_factory=dict)
    requests: int = 0

    @property
    def base(self) -> str:
        return self.studio.address

    def client(self, **headers: str) -> httpx.Client:
        """A program that nobody knows."""
        hooks = {"request": [self._count]}
        return httpx.Client(base_url=self.base, headers=headers, trust_env=False, timeout=60, event_hooks=hooks)

    def with_key(self, key: str) -> httpx.Client:
        return self.client(authorization=f"Bearer {key}")

    def _count(self, _: httpx.Request) -> None:
        self.requests += 1

    def by_link(self, link: str, name: str) -> Person:
        """Make an account, or a new password, with a link."""
        person = Person(name, self.client(), PASSWORD.format(name))
        path = link.removeprefix(self.base)
        answer = person.http.post(path, data={"name": name, "password": person.password, "again": person.password})
        assert answer.status_code == 303, answer.text
        person.learn_token()
        self.people[name] = person
        return person

    def invited(self, name: str, role: str) -> Person:
        return self.by_link(self.invitation(role), name)

    def invitation(self, role: str) -> str:
        page = self.people["root"].post("/people/invite", {"role": role}).text
        found = re.search(rf"<code>{re.escape(PUBLIC)}(/invite/[\w-]+)</code>", page)
        assert found, page
        return f"{self.base}{found[1]}"

    def signed_in(self, name: str, password: str = "", client: httpx.Client | None = None) -> httpx.Response:
        """Sign in from a new browser; the answer."""
        form = {"name": name, "password": password or PASSWORD.format(name)}
        if client:
            return client.post("/sign-in", data=form)
        with self.client() as fresh:
            return fresh.post("/sign-in", data=form)

    def raw(self, request: bytes) -> bytes:
        """What comes back for bytes as they are."""
        self.requests += 1
        host, port = self.base.removeprefix("http://").split(":")
        found = io.BytesIO()
        with socket.create_connection((host, int(port)), timeout=30) as link, suppress(TimeoutError, ConnectionError):
            link.sendall(request)
            while piece := link.recv(65536):
                found.write(piece)
                link.settimeout(1)  # a connection that stays open says no more
        return found.getvalue()


@contextmanager
def running(**settings: Any) -> Iterator[World]:
    """A studio with accounts on loopback, without a worker, and its four people."""
    request = StudioRequest(port=0, worker=False, accounts=True, public_url=PUBLIC, **settings)
    with pytest.MonkeyPatch.context() as patch, opened(request) as found:
        patch.setattr(passwords, "_hasher", lambda: argon2.PasswordHasher(1, 1024, 1))  # the same, for less time
        thread = threading.Thread(target=found.run)
        thread.start()
        world = World(found.studio, found.first_link.replace(PUBLIC, found.studio.address))
        try:
            world.by_link(world.first_link, "root")
            for name, role in (("ada", "member"), ("bob", "member"), ("vic", "viewer")):
                world.invited(name, role)
            yield world
        finally:
            for person in world.people.values():
                person.http.close()
            found.stop()
            thread.join(60)
            assert not thread.is_alive()


def changing(world: World) -> list[tuple[str, str]]:
    """Every method and path that changes something."""
    waiting: list[object] = [router_of(world.studio) for router_of in ROUTERS]
    found: list[tuple[str, str]] = []
    while waiting:
        route = waiting.pop()
        waiting += getattr(getattr(route, "original_router", route), "routes", [])  # FastAPI nests them, or not
        methods = {*(getattr(route, "methods", None) or ())} - {"GET", "HEAD"}
        found += [(method, str(getattr(route, "path", ""))) for method in sorted(methods)]
    assert len(found) > 40
    return found


def until(true: Any, seconds: float = 20) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)
