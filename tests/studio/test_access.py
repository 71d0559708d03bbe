"""Accounts in the database, on SQLite and Postgres: rows of others are not there, secrets are not kept, limits hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, inspect, select, text

from llm_installer.studio.access import accounts, audit, doors, passwords, rights, sessions, tries
from llm_installer.studio.access.accounts import FIRST, INVITE, RESET, BadName, NoLink
from llm_installer.studio.access.entry import network_of
from llm_installer.studio.access.sign_in import local
from llm_installer.studio.access.tries import SIGN_IN, Limit, TooOften
from llm_installer.studio.access.who import Who
from llm_installer.studio.store import acting, cleaning, files, jobs, quotas, schema
from llm_installer.studio.store.account_tables import Account, Session, Tries
from llm_installer.studio.store.acting import ACTING, Acting
from llm_installer.studio.store.jobs import NewJob, Wanted
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.quotas import TooMuch
from llm_installer.studio.store.refusals import NotAllowed, Unknown
from llm_installer.studio.store.tables import File, Job, Table


def account(store: Store, name: str, role: str = "member") -> Account:
    with store.writing() as session:
        kind = INVITE if accounts.any_there(session) else FIRST
        link = accounts.link_of(store, session, kind, accounts.make_link(store, session, kind, role))
        return accounts.make(store, session, link, name, "hash")


def as_(who: Account, role: str = "member") -> Acting:
    return Who(who.id, who.name, role).acting


def upload(store: Store, folder: Path, content: bytes = b"x") -> File:
    place = files.receiving(folder)
    try:
        place.write_bytes(content)
        return files.keep(store, folder, place, "a.csv")
    finally:
        place.unlink(missing_ok=True)  # as whoever receives a file does


def test_rows_of_others_are_not_there(store: Store, tmp_path: Path) -> None:
    ada, bob = account(store, "ada"), account(store, "bob")
    token = ACTING.set(as_(ada))
    try:
        file = upload(store, tmp_path)
        job, _ = jobs.create(store, NewJob("tiny", file.id))
        assert (file.owner, job.owner) == (ada.id, ada.id)
        ACTING.set(as_(bob))
        with store.writing() as session:
            assert session.get(Job, job.id) is None and session.get(File, file.id, with_for_update=True) is None
            assert jobs.listed(session, Wanted()) == [] == files.listed(session)
            assert session.scalar(select(func.count()).select_from(Job)) == 0
            assert session.scalar(select(Job.id)) is None and session.execute(select(File.name)).all() == []
            for look in (jobs.find, jobs.locked):
                with pytest.raises(Unknown):
                    look(session, job.id)
            with acting.for_everybody():
                assert jobs.find(session, job.id).id == job.id
        for act in (lambda: cleaning.delete_job(store, job.id), lambda: files.remove(store, tmp_path, file.id),
                    lambda: jobs.create(store, NewJob("tiny", file.id))):  # fmt: skip
            with pytest.raises(Unknown):
                act()
        ACTING.set(as_(bob, "viewer"))
        with store.reading() as session:
            assert jobs.find(session, job.id) and files.find(session, file.id)
    finally:
        ACTING.reset(token)


def test_every_table_with_an_owner_is_limited() -> None:
    owned = {mapper.class_.__name__ for mapper in Table.registry.mappers if "owner" in inspect(mapper.class_).columns}
    assert {"Job", "File"} <= owned and {one.__name__ for one in acting._owned()} == owned


def test_a_link_is_used_once_and_ends(store: Store) -> None:
    with store.writing() as session:
        first = accounts.make_link(store, session, FIRST, "admin")
        second = accounts.make_link(store, session, FIRST, "admin")
        with pytest.raises(NoLink):
            accounts.link_of(store, session, FIRST, first)
        made = accounts.make(store, session, accounts.link_of(store, session, FIRST, second), " Root ", "hash")
        assert (made.name, made.role) == ("root", "admin")
        late = accounts.make_link(store, session, RESET, "admin", made.id)
    with store.writing() as session:
        third = accounts.make_link(store, session, FIRST, "admin")
        for kind, secret in ((FIRST, second), (FIRST, third), (INVITE, late), (RESET, "guess")):
            with pytest.raises(NoLink):
                accounts.link_of(store, session, kind, secret)
        assert accounts.link_of(store, session, RESET, late)
    store.shift = timedelta(hours=2)
    with store.writing() as session, pytest.raises(NoLink):
        accounts.link_of(store, session, RESET, late)


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a/b", "\u00e4da", "a" * 65, "a\nb", "<b>", "a,b"])
def test_names_that_no_account_has(name: str) -> None:
    with pytest.raises(BadName):
        accounts.checked_name(name)
    assert accounts.checked_name("Ada.L+x@example.org") == "ada.l+x@example.org"


def test_a_session_ends_when_nobody_uses_it_and_after_a_month(store: Store) -> None:
    ada = account(store, "ada", "admin")
    with store.writing() as session:
        secret = sessions.begin(store, session, accounts.find(session, ada.id), "10.0.0.1")
        kept = session.scalars(select(Session)).one()
        assert secret not in (kept.sha256, kept.address)
    found = sessions.by_session(store, secret)
    assert found and (found.name, found.role, found.may(rights.ADMINISTER)) == ("ada", "admin", True)
    assert sessions.by_session(store, f"{secret}x") is None and sessions.by_session(store, kept.sha256) is None
    for hours in range(10, 24 * 31, 11):  # seen again and again
        store.shift = timedelta(hours=hours)
        alive = sessions.by_session(store, secret) is not None
        assert alive == (hours < 24 * 30), hours
    store.shift = timedelta()
    with store.writing() as session:
        other = sessions.begin(store, session, accounts.find(session, ada.id), "10.0.0.1")
    store.shift = timedelta(hours=13)
    assert sessions.by_session(store, other) is None


def test_who_tries_often_waits_longer_each_time(store: Store) -> None:
    keys, waits = [(Limit("guess", 3, most=60), "ada")], []
    for _ in range(12):
        try:
            tries.count(store, keys)
        except TooOften as error:
            waits.append(round(error.seconds))
            store.shift += timedelta(seconds=error.seconds + 0.01)
            tries.count(store, keys)
    assert waits[:4] == [5, 10, 20, 40] and set(waits[4:]) == {60}
    store.shift += tries.FORGOTTEN + timedelta(minutes=2)
    for _ in range(3):
        tries.count(store, keys)


def test_all_that_was_counted_long_ago_is_swept_at_once(store: Store) -> None:
    with store.writing() as session:
        then = store.now(session) - timedelta(days=2)
        session.add_all(Tries(key=f"k{n}", count=1, at=then) for n in range(2 * cleaning.AT_ONCE + 1))
    assert (cleaning.sweep_tries(store), cleaning.sweep_tries(store)) == (2 * cleaning.AT_ONCE + 1, 0)


def test_what_was_counted_long_ago_is_swept(store: Store) -> None:
    ada, keys = account(store, "ada"), [(Limit("guess", 1), name) for name in ("long ago", "a while ago", "now")]
    tries.count(store, keys[:1])
    token = ACTING.set(as_(ada))
    try:
        jobs.create(store, NewJob("tiny", None))
        store.shift = timedelta(hours=20)
        tries.count(store, keys[1:2])
        store.shift = timedelta(hours=25)
        tries.count(store, keys[2:])
        assert (cleaning.sweep_tries(store), cleaning.sweep_tries(store)) == (2, 0), "the first, and the quota"
        with store.reading() as session:
            assert len(session.scalars(select(Tries)).all()) == 2
        tries.count(store, keys[2:])
        with pytest.raises(TooOften):
            tries.count(store, keys[2:])
        jobs.create(store, NewJob("tiny", None))
    finally:
        ACTING.reset(token)


def test_of_two_who_choose_one_name_at_once_one_is_told_so(store: Store, opened: Callable[[], Store]) -> None:
    account(store, "root", "admin")
    with store.writing() as session:
        links = [accounts.make_link(store, session, INVITE, "member") for _ in range(2)]
    other, refused = opened(), []

    def second() -> None:
        try:
            with other.writing() as session:
                accounts.make(other, session, accounts.link_of(other, session, INVITE, links[1]), "ada", "hash")
        except BadName as error:
            refused.append(str(error))

    thread = threading.Thread(target=second)
    with store.writing() as session:
        accounts.make(store, session, accounts.link_of(store, session, INVITE, links[0]), "ada", "hash")
        thread.start()
        while store.postgres and not _somebody_waits(store):
            assert thread.is_alive()
    thread.join()
    assert refused == ["There is an account 'ada' already; choose another name"]
    with store.writing() as session:
        assert accounts.link_of(store, session, INVITE, links[1]), "it can be used with another name"


def _somebody_waits(store: Store) -> bool:
    """Whether a transaction of this database waits for another one."""
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with store.reading() as session:
        return bool(session.scalar(waits))


def test_what_is_counted_at_once_is_counted(store: Store) -> None:
    found: list[bool] = []
    gate = threading.Barrier(10)

    def one() -> None:
        gate.wait()
        try:
            tries.count(store, [(SIGN_IN[0], "x"), (SIGN_IN[1], "y")])
        except TooOften:
            found.append(False)
        else:
            found.append(True)

    threads = [threading.Thread(target=one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(True) == 5, "four are free, the fifth begins the wait"


def test_quotas_hold_for_members_whoever_asks_at_once(store: Store, tmp_path: Path) -> None:
    ada, root = account(store, "root", "admin"), account(store, "ada")
    ada, root = root, ada
    with store.writing() as session:
        quotas.choose(session, {"stored_gib": 1, "jobs_at_once": 2})
        session.add(File(id="file-big", name="x", bytes=(1 << 30) - 10, sha256="", purpose="fine-tune",
                         created_at=store.now(session), owner=ada.id))  # fmt: skip
    found: list[int] = []
    gate = threading.Barrier(6)

    def one() -> None:
        ACTING.set(as_(ada))
        gate.wait()
        try:
            found.append(upload(store, tmp_path, b"1234").bytes)
        except TooMuch:
            found.append(0)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, 0, 4, 4]
    assert len([*(tmp_path / "files").iterdir()]) == 2, "what was refused is not kept"
    token = ACTING.set(as_(root, "admin"))
    try:
        assert [jobs.create(store, NewJob("tiny", None))[1] for _ in range(4)] == [True] * 4
        ACTING.set(as_(ada))
        for _ in range(2):
            jobs.create(store, NewJob("tiny", None))
        with pytest.raises(TooMuch, match="2 jobs"):
            jobs.create(store, NewJob("tiny", None))
    finally:
        ACTING.reset(token)


def test_one_administrator_is_always_left(store: Store) -> None:
    root, ada = account(store, "root", "admin"), account(store, "ada")
    with store.writing() as session:
        for role, off in (("member", False), ("admin", True)):
            with pytest.raises(NotAllowed, match="only administrator"):
                accounts.change(session, root.id, role, off)
        accounts.change(session, ada.id, "admin", False)
        accounts.change(session, root.id, "viewer", False)
        assert {one.name: one.role for one in accounts.listed(session)} == {"ada": "admin", "root": "viewer"}


def test_data_to_evaluate_on_stay_while_a_job_waits_for_them(store: Store, tmp_path: Path) -> None:
    rows, beside = upload(store, tmp_path), upload(store, tmp_path)
    job, _ = jobs.create(store, NewJob("tiny", rows.id, {"validation_data": beside.id}))
    with pytest.raises(NotAllowed, match=job.id):
        files.remove(store, tmp_path, beside.id)
    with store.writing() as session:
        jobs.cancel(store, session, job.id)
    files.remove(store, tmp_path, beside.id)
    assert not files.path_of(tmp_path, beside.id).exists()


@pytest.mark.parametrize(("path", "quiet"), [
    ("/chat/tiny/v1/chat/completions", True), ("/chat/tiny/start", False), ("/chat/tiny/stop", False),
    ("/runs/chat/20260101-000000-medium/delete", False), ("/blobs/ab", True), ("/new/warm", True),
    ("/new/file-1/plan", True), ("/new/file-1/start", False), ("/api/workers/jobs/1/report", True),
])  # fmt: skip
def test_which_requests_the_log_leaves_out(path: str, quiet: bool) -> None:
    assert bool(audit.QUIET.match(path)) is quiet


def test_the_log_keeps_what_happened_in_its_order(store: Store) -> None:
    for number in range(5):
        audit.write(store, audit.Entry("ada", "session 1", "x" * 200, f"n {number}", "10.0.0.1", 200))
    rows = audit.listed(store, "ada", most=3)
    assert [row.about for row in rows] == ["n 4", "n 3", "n 2"] and len(rows[0].what) == 80
    assert [row.about for row in audit.listed(store, "ada", rows[-1].id)] == ["n 1", "n 0"]
    assert audit.listed(store, "bob") == []
    assert audit.about({"token": "secret", "job_id": "j"}) == "j" and audit.about({}, "a\u202e\nb") == "a??b"


def test_jobs_from_before_there_were_accounts_stay(opened: Callable[[], Store], database: str) -> None:
    """The step to accounts, with data, and back again."""
    store = opened()
    job, _ = jobs.create(store, NewJob("tiny", None))
    account(store, "root", "admin")
    from alembic import command

    with store.engine.connect() as connection, connection.begin():
        config = schema._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with opened().reading() as session:
        assert jobs.find(session, job.id).owner == "" and not accounts.any_there(session)


def test_the_table_of_rights() -> None:
    allowed = {role: {row.name for row in rights.TABLE if rights.may(row.name, role)} for role in rights.ROLES}
    assert allowed["admin"] == {row.name for row in rights.TABLE}
    assert allowed["viewer"] == {"look", "everywhere", "own"} and "everywhere" not in allowed["member"]
    for scope in rights.SCOPES:
        assert not rights.may(rights.ADMINISTER, "admin", scope) and not rights.may(rights.OWN, "admin", scope)
    assert [[*rights.scopes_of(role)] for role in rights.ROLES] == [
        [*rights.SCOPES],
        ["read", "train", "chat"],
        ["read"],
    ]
    assert rights.may(rights.LOOK, "viewer", "read") and not rights.may(rights.LOOK, "", "")


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/health", doors.FREE),
        ("POST", "/health", rights.DO),
        ("POST", "/sign-in", doors.FREE),
        ("POST", "/invite/a/b", rights.DO),
        ("GET", "/people", rights.ADMINISTER),
        ("GET", "/people/\n", rights.ADMINISTER),
        ("PUT", "/blobs/x", rights.BE_WORKER),
        ("GET", "/api/workers/jobs/x/data", rights.BE_WORKER),
        ("GET", "/api/workers/wheel", doors.FREE),
        ("POST", "/chat/tiny/v1/chat/completions", rights.TALK),
        ("POST", "/settings/x", rights.ADMINISTER),
        ("DELETE", "/never/heard/of", rights.DO),
        ("GET", "/never/heard/of", rights.LOOK),
    ],
)
def test_which_right_a_request_needs(method: str, path: str, right: str) -> None:
    assert doors.right_for(method, path) == right


def test_where_one_goes_after_signing_in() -> None:
    assert [local(path) for path in ("/runs?x=1", "//x", "/\\x", "x", "https://x", "/a\nb", "/sign-in", "")] == [
        "/runs?x=1", *["/models"] * 7
    ]  # fmt: skip


def test_what_counts_as_one_place() -> None:
    assert network_of("2001:db8:1:2:3::1") == network_of("2001:db8:1:2:9::9") == "2001:db8:1:2::/64"
    assert network_of("10.1.2.3") == "10.1.2.3" and len(network_of("x" * 99)) == 64


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaa", "x" * 501, "ada-2026-11", "adaada 12345"])
def test_passwords_that_are_none(password: str) -> None:
    with pytest.raises(passwords.BadPassword):
        passwords.checked(password, "ada")
    assert passwords.checked("correct horse battery", "ada")


def test_fifty_who_sign_in_at_once_take_the_memory_of_two() -> None:
    async def all_at_once() -> list[bool]:
        kept = await passwords.hashed("a good sentence")
        assert kept.startswith("$argon2id$")
        return await asyncio.gather(
            *(passwords.matches(kept, f"wrong {n}" if n else "a good sentence") for n in range(50))
        )

    before, most, ended = psutil.Process().memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], psutil.Process().memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        found = asyncio.run(all_at_once())
    finally:
        ended.set()
        thread.join()
    assert found == [True, *[False] * 49]
    assert most[0] - before < 250 << 20


def test_the_guide_has_the_tables_of_rights_and_keys() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "studio.md").read_text(encoding="utf-8")
    for row in rights.TABLE:
        cells = " | ".join("yes" if role in row.roles else "no" for role in rights.ROLES)
        assert f"| {row.words} | {cells} |" in guide
    for name, words in rights.SCOPES.items():
        assert f"| `{name}` | {words} |" in guide
