"""Attacks on what is shown and kept: pages and secrets."""

from __future__ import annotations

import subprocess

from sqlalchemy import select

from llm_installer.studio.store.account_tables import Tries
from tests.studio.attacks.parts import attack
from tests.studio.people import PASSWORD, World

# Pages


EVIL = "<img src=x onerror=hurt()>\"'</script><script>hurt()</script>{{7*7}}"


@attack
def a_name_that_is_html(world: World) -> None:
    ada, root = world.people["ada"], world.people["root"]
    file = ada.upload(name=f"{EVIL.replace('/', '')}.csv")
    job = ada.job(file, suffix=EVIL[:60])
    ada.post("/account/keys", {"name": EVIL[:64], "scope": "read"})
    pages = [ada.get("/account").text, ada.get("/runs").text, root.get(f"/runs/{job}").text, root.get("/audit").text]
    assert all("<img src=x" not in page and "<script>hurt" not in page and "49" not in page[:200] for page in pages)
    assert "&lt;img src=x" in pages[0], "it is shown, as text"


@attack
def a_line_in_the_audit_log_that_was_never_written(world: World) -> None:
    forged = "x\r\n2026-01-01 root made eve administrator\u202e"
    world.signed_in(forged, "wrong number")
    world.people["ada"].post("/account/keys", {"name": forged, "scope": "read"})
    page = world.people["root"].get("/audit").text
    assert "\u202e" not in page and "\n2026-01-01 root made" not in page and "(unknown name)" in page


@attack
def a_page_in_a_frame(world: World) -> None:
    for path in ("/sign-in", "/account", "/people", "/audit", "/models", "/api/jobs", "/nowhere"):
        headers = world.people["root"].get(path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "default-src 'none'" in policy, path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] in (
            "same-origin",
            "no-referrer",
        )


@attack
def a_page_out_of_a_cache(world: World) -> None:
    """Of whoever used this browser before."""
    for path in ("/account", "/people", "/audit", "/runs"):
        assert world.people["root"].get(path).headers["cache-control"] == "no-store", path


@attack
def methods_that_nobody_needs(world: World) -> None:
    ada = world.people["ada"]
    for method in ("TRACE", "CONNECT", "PROPFIND", "TRACK", "PATCH"):
        answer = ada.http.request(method, "/api/jobs", headers={"x-form-token": ada.token})
        assert answer.status_code in (400, 403, 405), method
        assert ada.http.cookies["studio"] not in answer.text


@attack
def a_mistake_that_tells_how_it_is_made(world: World) -> None:
    ada = world.people["ada"]
    for path in (
        "/api/jobs?limit=x",
        "/runs/%ff",
        "/new/%00",
        "/api/jobs?after=%00",
        "/audit?before=x",
        "/compare?run=%00",
    ):
        answer = ada.get(path)
        assert answer.status_code < 500, path
        assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text.lower(), path


# Secrets


@attack
def secrets_where_they_do_not_belong(world: World) -> None:
    """In the database, in files, in the audit log, in the list of processes, on pages."""
    ada, root = world.people["ada"], world.people["root"]
    key, link = ada.key("train"), world.invitation("viewer").rpartition("/")[2]
    cookie = ada.http.cookies["studio"]
    world.signed_in(PASSWORD.format("ada"), "typed into the wrong field")
    secrets = [key, link, cookie, PASSWORD.format("ada"), world.studio.worker_key, world.first_link.rpartition("/")[2]]
    kept = b"".join(file.read_bytes() for file in world.studio.folder.rglob("*") if file.is_file())
    shown = "".join(
        page.get(path).text for page in (ada, root) for path in ("/account", "/audit", "/people", "/settings")
    )
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    for secret in secrets:
        assert secret.encode() not in kept and secret not in shown and secret not in listed
    assert ada.name.encode() in kept, "what is looked through is what there is"


@attack
def a_database_that_others_on_this_machine_read(world: World) -> None:
    world.people["ada"].upload()
    modes = {
        one: one.stat().st_mode & 0o077 for one in [world.studio.folder, *world.studio.folder.glob("studio.sqlite3*")]
    }
    assert set(modes.values()) == {0} or world.studio.folder.stat().st_mode & 0o077 == 0


@attack
def tries_that_fill_the_database(world: World) -> None:
    """Long names are cut before they become rows."""
    for n in range(3):
        world.signed_in("n" * 3000 + str(n), "wrong number")
    with world.studio.store.reading() as session:
        assert max(len(row.key) for row in session.scalars(select(Tries))) <= 160
