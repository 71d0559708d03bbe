"""Messages to webhooks: signed, in order for each job, again until they are accepted, and to nobody on this network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event, text

from llm_installer.studio.context import Studio
from llm_installer.studio.store import claims, hooks, jobs
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed
from llm_installer.studio.webhooks import sending
from llm_installer.studio.webhooks.addresses import BadAddress, public
from llm_installer.studio.webhooks.sending import Sender
from llm_installer.studio.webhooks.signing import Signer, signature


class Receiver:
    """A server that remembers what it was sent, and answers as the test wants."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        """Statuses of the next answers; 200 after them. 0 closes the connection without a word, -1 says nothing until
        the test ends."""
        self.ended = threading.Event()
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                mine.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                code = mine.answers.pop(0) if mine.answers else 200
                if code < 0:
                    mine.ended.wait(60)
                if code <= 0:
                    self.close_connection = True
                    return
                self.send_response(code)
                self.send_header("location", f"{mine.url}elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://hook.test:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def states(self) -> list[str]:
        """What it was told, in the order in which that came."""
        return [json.loads(body)["type"] for _, body in self.got]

    def close(self) -> None:
        """No more answers."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def sender(store: Store, signer: Signer) -> Sender:
    """That connects to this machine whatever the name says, and waits exactly as long as it should."""
    return Sender(store, signer, lambda url: "127.0.0.1", lambda seconds: seconds)


def hooked(store: Store, signer: Signer, url: str, *states: str) -> str:
    return hooks.create(store, url, states, "", signer.name).id


def a_job(store: Store) -> str:
    """One that is created and claimed: two messages."""
    job, _ = jobs.create(store, NewJob("tiny", None))
    assert claims.claim(store, claims.Claim("w", job_id=job.id))
    return job.id


def later(store: Store, seconds: float) -> None:
    store.shift += timedelta(seconds=seconds)


def off(store: Store, hook: str) -> str:
    with store.reading() as session:
        return hooks.find(session, hook).off


def test_a_key_is_made_once_and_is_never_empty(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    for folder in folders:
        folder.mkdir()
        found: list[str] = []
        threads = [threading.Thread(target=lambda f=folder, s=found: s.append(Signer(f).name)) for _ in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [Signer(folder).name] * 4 and [file.name for file in folder.iterdir()] == ["webhooks.key"]
        assert (folder / "webhooks.key").stat().st_size == 32


def test_a_database_that_is_away_for_a_while_stops_nothing(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.postgres:
        pytest.skip("a table that is away is another kind of error there")
    monkeypatch.setattr(sending, "EVERY", 0.02)
    hooked(store, signer, receiver.url)
    a_job(store)
    with store.writing() as session:
        session.execute(text("ALTER TABLE deliveries RENAME TO away"))
    asked = threading.Event()
    event.listen(store.engine, "handle_error", lambda context: asked.set())
    sender.start()
    try:
        assert asked.wait(30)
        with store.writing() as session:
            session.execute(text("ALTER TABLE away RENAME TO deliveries"))
        ends = time.monotonic() + 30
        while len(receiver.got) < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)
    finally:
        sender.stop()


def test_a_message_is_signed_as_the_standard_says(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver
) -> None:
    hook = hooked(store, signer, receiver.url)
    job = a_job(store)
    assert sender.look() == 1 and sender.look() == 1 and sender.look() == 0
    assert receiver.states == ["job.queued", "job.preparing"]
    secret = base64.b64decode(signer.secret(hook).removeprefix("whsec_"))
    for headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        assert headers["host"] == receiver.url.split("/")[2] and headers["content-type"] == "application/json"
        with store.reading() as session:
            assert abs(int(headers["webhook-timestamp"]) - store.now(session).timestamp()) < 300
    data = json.loads(receiver.got[1][1])["data"]
    assert (data["job_id"], data["state"], data["status"], data["attempt"]) == (job, "preparing", "training", 1)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


def test_the_signature_is_that_of_the_published_example() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_that_was_not_accepted_comes_again_and_the_next_one_waits(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver
) -> None:
    hooked(store, signer, receiver.url)
    a_job(store)
    receiver.answers = [500, 302, 0, 200, 503]
    for tried, wait in enumerate(hooks.WAITS[:3], start=1):
        assert (sender.look(), sender.look()) == (1, 0), "not before its time"
        assert len(receiver.got) == tried
        later(store, wait - 1)
        assert sender.look() == 0
        later(store, 1.1)
    assert sender.look() == 1 and sender.look() == 1 and sender.look() == 0
    later(store, hooks.WAITS[0] + 0.1)
    assert sender.look() == 1
    assert receiver.states == [*["job.queued"] * 4, *["job.preparing"] * 2], "in order, and no redirect is followed"
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(set(ids[:4])) == len(set(ids[4:])) == 1, "by its id a receiver knows what it has had"
    times = [headers["webhook-timestamp"] for headers, _ in receiver.got[:4]]
    assert times == sorted(times) and len(set(times)) == 4, "each try has its own time"


def test_one_receiver_that_fails_or_hangs_holds_up_no_other(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 0.3)
    other = Receiver()
    try:
        hooked(store, signer, receiver.url)
        hooked(store, signer, other.url, "preparing")
        receiver.answers = [-1, 500, 500, 500]
        for _ in range(3):
            a_job(store)
        assert sender.look() == 1 + 3, "a hook that failed is not asked again for its other jobs"
        assert other.states == ["job.preparing"] * 3 and len(receiver.got) == 1
        assert sender.look() == 0
    finally:
        other.close()


def test_a_hook_is_switched_off_with_a_sentence_and_on_again(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver
) -> None:
    hook = hooked(store, signer, receiver.url)
    a_job(store)
    receiver.answers = [500] * 100
    tries = 0
    while not off(store, hook):
        tries += sender.look()
        later(store, hooks.WAITS[-1])
        assert tries < 20
    assert tries == len(hooks.WAITS) + 1
    assert "after 11 tries" in off(store, hook) and "it answered with status 500" in off(store, hook)
    a_job(store)
    later(store, 10 * hooks.WAITS[-1])
    assert sender.look() == 0
    receiver.answers = []
    hooks.switch_on(store, hook)
    assert sender.look() == 1 and sender.look() == 1 and sender.look() == 0
    assert receiver.states[-2:] == ["job.queued", "job.preparing"]
    receiver.answers = [410]
    a_job(store)
    assert sender.look() == 1 and "410" in off(store, hook), "the receiver wants no more"


def test_a_hook_hears_of_the_states_it_asked_for_and_of_its_owners_jobs(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver
) -> None:
    hooked(store, signer, receiver.url, "failed", "completed")
    job = a_job(store)
    theirs, _ = jobs.create(store, NewJob("tiny", None, owner="somebody else"))
    assert claims.claim(store, claims.Claim("w", job_id=theirs.id))
    for each in (job, theirs.id):
        with store.writing() as session:
            claims.fail(store, session, each, 1, "no reason")
    while sender.look():
        pass
    assert receiver.states == ["job.failed"]
    data = json.loads(receiver.got[0][1])["data"]
    assert (data["job_id"], data["why"]) == (job, "no reason")


def test_a_change_that_is_undone_is_told_to_nobody(
    store: Store, signer: Signer, sender: Sender, receiver: Receiver
) -> None:
    hooked(store, signer, receiver.url, "cancelled")
    job, _ = jobs.create(store, NewJob("tiny", None))
    with pytest.raises(RuntimeError), store.writing() as session:
        jobs.cancel(store, session, job.id)
        raise RuntimeError
    assert sender.look() == 0


def test_another_servers_hooks_are_not_ours(store: Store, sender: Sender, receiver: Receiver, tmp_path: Path) -> None:
    """Two servers on one database, each with the key of its own folder."""
    (tmp_path / "other").mkdir()
    hooked(store, Signer(tmp_path / "other"), receiver.url)
    a_job(store)
    assert sender.look() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://10.0.0.1/",
        "https://192.168.1.1:8443/x",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://localhost/",
        "https://2130706433/",
        "https://user@8.8.8.8/",
        "https://8.8.8.8/#x",
        "file:///etc/passwd",
        "https:///x",
        "https://[::1",
        "https://a\x00b/",
        "https://8.8.8.8:99999/",
        "https://8.8.8.8/\r\nx",
        f"https://8.8.8.8/{'x' * 3000}",
    ],
)
def test_where_nothing_is_sent(url: str) -> None:
    with pytest.raises(BadAddress):
        public(url)


def test_a_public_address_is_one() -> None:
    assert public("https://8.8.8.8/hook?x=1") == "8.8.8.8"


def test_an_address_that_may_not_be_is_a_failed_try(store: Store, signer: Signer, receiver: Receiver) -> None:
    """Its name may have come to mean another machine since the hook was made."""
    hook = hooked(store, signer, receiver.url.replace("hook.test", "127.0.0.1"))
    a_job(store)
    assert Sender(store, signer, public).look() == 1
    with store.reading() as session:
        assert hooks.find(session, hook).failures == 1
    assert receiver.got == []


def test_no_more_than_so_many(store: Store, signer: Signer) -> None:
    for _ in range(hooks.MOST):
        hooked(store, signer, "https://a.test/")
    with pytest.raises(NotAllowed, match="as many as may be"):
        hooked(store, signer, "https://a.test/")


def test_over_http(api: httpx.Client, studio: Studio, make_job: Callable[..., str]) -> None:
    assert api.post("/api/webhooks", json={"url": "https://127.0.0.1/"}).status_code == 400
    assert api.post("/api/webhooks", json={"url": "https://8.8.8.8/", "states": ["nonsense"]}).status_code == 400
    made = api.post("/api/webhooks", json={"url": "https://8.8.8.8/", "states": ["completed"]})
    assert made.status_code == 201 and made.json()["secret"].startswith("whsec_")
    hook, secret = made.json()["id"], made.json()["secret"]
    make_job()
    listed = api.get("/api/webhooks").json()["data"]
    assert [(one["id"], one["states"], one["on"], one["waiting"]) for one in listed] == [(hook, ["completed"], True, 0)]
    assert secret not in api.get(f"/api/webhooks/{hook}").text
    with closing(sqlite3.connect(studio.folder / "studio.sqlite3")) as connection:
        dump = "\n".join(connection.iterdump())
    assert hook in dump and secret.removeprefix("whsec_") not in dump
    assert (studio.folder / "webhooks.key").stat().st_mode & 0o077 == 0
    assert api.post(f"/api/webhooks/{hook}/on").json()["on"] is True
    assert api.delete(f"/api/webhooks/{hook}").json()["deleted"] is True
    assert api.get(f"/api/webhooks/{hook}").status_code == 404
